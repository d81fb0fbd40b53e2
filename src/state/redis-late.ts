import type { Command, Redis } from 'ioredis'

type Socket = Redis['stream']

/** When a timer is later than this, the process stood still, ms. */
const noticeableMs = 20

/** Where a command went, and how much had been heard from there by then. */
const ways = new WeakMap<Command, { readonly socket: Socket; readonly heard: number }>()

/** To be told before a command is sent, each time. */
export function leavesBy(command: Command, socket: Socket | undefined): void {
  if (socket) ways.set(command, { socket, heard: socket.bytesRead })
}

/**
 * Makes a command late only when its answer is: time for which this process stood still, for want of CPU or in a long
 * computation, does not count. Timers run before what has arrived meanwhile is read, so an answer in time would be thrown
 * away, just when an instance starts under load.
 *
 * A server that is stopped, not gone, would cost every command the whole bound, and a request has several: when nothing
 * was heard since the command left, its socket is cut, and the others fail at once until the server answers a new one.
 */
export function boundFairly(command: Command): void {
  // Where the client keeps its own timer: it clears that as soon as the command is settled.
  const kept = command as unknown as { _commandTimeoutTimer?: NodeJS.Timeout }
  command.setTimeout = (ms: number): void => {
    if (kept._commandTimeoutTimer) return
    const begun = performance.now()
    const give = (): void => {
      if (command.isSettled) return
      const way = ways.get(command)
      command.reject(new Error('Command timed out'))
      if (way && way.socket.bytesRead === way.heard) way.socket.destroy(new Error(`Silent for ${ms} ms`))
    }
    kept._commandTimeoutTimer = setTimeout(() => {
      const stoodStill = performance.now() - begun - ms
      // What has arrived is read before an immediate runs.
      if (stoodStill <= noticeableMs) setImmediate(give)
      else kept._commandTimeoutTimer = setTimeout(() => setImmediate(give), Math.min(stoodStill, ms))
    }, ms)
  }
}
