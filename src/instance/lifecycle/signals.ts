import cluster from 'node:cluster'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'

/** What can end a process from outside. */
export type ExitCause = 'SIGTERM' | 'SIGINT' | 'shutdown message' | 'fatal error'

export interface ExitHandlers {
  /** Called once. The process exits with the code that the promise resolves to. */
  first(cause: ExitCause, error?: Error): Promise<number>
  /** Called right before the process exits because of a second signal. */
  second(cause: ExitCause): void
  /** Called when other code calls `process.exit()` meanwhile, which takes effect when all handlers are done. */
  deferred?(code: number): void
  /** Whether the app has not become ready yet. */
  isBooting?(): boolean
  /**
   * Time from the signal in which the application's own listeners of the signal may finish, e.g. close a connection after
   * `app.close()`, ms. @default 0
   */
  readonly timeoutMs?: number
}

/** npm, yarn, process groups and service managers may deliver one signal several times within this time, ms. */
export const sameSignalMs = 300

/**
 * Calls back once a further signal is a second one. A signal that arrived while the event loop was blocked is read before
 * the immediate runs, so it still counts as the first.
 */
export function afterSameSignal(callback: () => void): void {
  setTimeout(() => setImmediate(callback), sameSignalMs).unref()
}

const handlers = new Set<ExitHandlers>()
/** Whether the process ends, and whether another signal ends it at once. */
let phase: 'running' | 'first signal' | 'accepts a second' = 'running'

/**
 * Lets several apps in one process shut down together. The first signal starts all handlers, and the process exits with
 * the largest of their codes after the last one. A second signal exits at once with 1.
 *
 * pm2 on Windows, and everywhere with `shutdown_with_message`, sends the message `shutdown` instead of a signal.
 *
 * @returns a function that removes the handlers
 */
export function onExitSignal(handler: ExitHandlers): () => void {
  if (handlers.size === 0) listen()
  handlers.add(handler)
  return () => {
    handlers.delete(handler)
    // Without a listener, a signal that is delivered twice would kill the process while it closes.
    if (handlers.size === 0 && phase === 'running') stopListening()
  }
}

function exit(cause: ExitCause, error?: Error): void {
  if (phase === 'running') {
    phase = 'first signal'
    afterSameSignal(() => {
      phase = 'accepts a second'
    })
    void shutDown(cause, error)
  } else if (phase === 'accepts a second' && !error) {
    // A second error must not cut requests in flight, since the process is shutting down anyway.
    for (const handler of handlers) handler.second(cause)
    exitNow(1)
  }
}

let exitNow: (code: number) => never = process.exit

async function shutDown(cause: ExitCause, error?: Error): Promise<void> {
  const all = [...handlers]
  const others = process.listenerCount(cause) > 1
  const deadline = performance.now() + Math.max(...all.map(({ timeoutMs = 0 }) => timeoutMs))
  let least = error ? 1 : 0
  let isDone = false
  let isRequested = false
  // The terminal hangs up when a package manager that it started exits first, as yarn 1 does on Ctrl-C.
  process.on('SIGHUP', () => undefined)
  exitNow = process.exit.bind(process)
  // Other code that handles the signal, such as close-with-grace, may exit while requests are in flight.
  process.exit = ((code) => {
    least = Math.max(least, Number(code ?? process.exitCode ?? 0))
    if (isDone) exitNow(least)
    isRequested = true
    for (const handler of all) handler.deferred?.(least)
  }) as typeof process.exit
  const codes = await Promise.all(all.map((handler) => handler.first(cause, error).catch(() => 1)))
  least = Math.max(least, ...codes)
  isDone = true
  await leaveCluster(deadline)
  const leftMs = deadline - performance.now()
  if (isRequested || !others || leftMs <= 0) exitNow(least)
  // The other listeners may have work left. The process ends with them.
  process.exitCode = least
  process.off('message', onMessage)
  setTimeout(() => exitNow(least), leftMs).unref()
}

/**
 * Waits until the parent of a cluster worker has read that it no longer listens. Until then the parent may pass on a
 * connection, which only a running worker returns, so that another one gets it. A parent that stands still, such as the
 * daemon of pm2 on a busy machine, would lose it. The workers of `fleet start` accept connections themselves.
 */
async function leaveCluster(deadline: number): Promise<void> {
  const { worker } = cluster
  const leftMs = deadline - performance.now()
  if (!worker?.isConnected() || leftMs <= 0 || readEnv().FLEET_WORKER !== undefined) return
  const left = once(worker, 'disconnect')
  worker.disconnect()
  // The timer must not keep a process that has nothing else to do.
  await Promise.race([left, delay(leftMs, undefined, { ref: false })])
}

const onTerm = (): void => exit('SIGTERM')
const onInt = (): void => exit('SIGINT')
const onMessage = (message: unknown): void => {
  if (message === 'shutdown') exit('shutdown message')
}
const onFatal = (error: unknown): void => exit('fatal error', error instanceof Error ? error : new Error(String(error)))

/** pm2 only logs rejections that no code handles, so an instance that cannot boot would stay up, without ever being ready. */
const onRejection = (error: unknown): void => {
  if (error instanceof FleetError && [...handlers].some(({ isBooting }) => isBooting?.())) onFatal(error)
}

function listen(): void {
  // Before listeners that were added with `once` and are removed before they run, so that all are counted.
  process.prependListener('SIGTERM', onTerm)
  process.prependListener('SIGINT', onInt)
  process.on('message', onMessage)
  process.on('uncaughtException', onFatal)
  // Node itself ends the process if there is no listener.
  if (process.listenerCount('unhandledRejection') > 0) process.on('unhandledRejection', onRejection)
}

function stopListening(): void {
  process.off('SIGTERM', onTerm)
  process.off('SIGINT', onInt)
  process.off('message', onMessage)
  process.off('uncaughtException', onFatal)
  process.off('unhandledRejection', onRejection)
}
