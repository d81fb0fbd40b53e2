/**
 * Intercepts the commands of ioredis clients. Its public options can time out one command (`commandTimeout`) or a silent
 * connection (`socketTimeout`), but neither can tell a slow server from a process that was suspended itself, nor give a
 * command one time limit for all its attempts in a Cluster.
 *
 * Touches: `sendCommand()` of a client, with its undocumented second and third argument; `client.stream`; and `isSettled`,
 * `promise`, `reject` and `setTimeout()` of a command. Seen in ioredis 6.0.
 * Fallback: the options `commandTimeout` and `socketTimeout`; see `client.ts` of the Redis plugin.
 * Self-test: {@link canIntercept}.
 * Worth: needed for correctness. A suspended Redis costs one request its time limit, and not each request. Sending the
 * commands of one turn in one write also saves 22 % of the CPU time of a session read.
 */
import type { Cluster, Command, Redis } from 'ioredis'
import { shortcuts } from './shortcuts.ts'

export type RedisSocket = Redis['stream']

type Send = (command: Command, stream?: unknown, node?: unknown) => unknown

/** Whether the installed ioredis has the parts that this file touches. */
export function canIntercept(ioredis: Pick<typeof import('ioredis'), 'Command' | 'Redis' | 'Cluster'>): boolean {
  if (!shortcuts.redisDeadlines) return false
  try {
    const command = new ioredis.Command('ping')
    return (
      [ioredis.Redis, ioredis.Cluster].every(({ prototype }) => typeof prototype.sendCommand === 'function') &&
      command.isSettled === false &&
      command.promise instanceof Promise &&
      typeof command.reject === 'function' &&
      typeof command.setTimeout === 'function'
    )
  } catch {
    return false
  }
}

/**
 * Calls `onSend` for each command that a client is about to write to its connection.
 *
 * @param onSend `isReady`: whether the connection is ready, and not still starting
 */
export function interceptCommands(
  client: Redis,
  onSend: (command: Command, socket: RedisSocket, isReady: boolean) => void,
): void {
  const send = client.sendCommand.bind(client) as Send
  client.sendCommand = ((command: Command, stream?: unknown) => {
    // It has timed out while there was no connection.
    if (command.isSettled) return command.promise
    const { status, stream: socket } = client
    const isReady = status === 'ready'
    if (isReady || status === 'connect') onSend(command, socket, isReady)
    return send(command, stream)
  }) as Redis['sendCommand']
}

/** Whether a client is connected to this address. A host name is never recognized. */
export function isConnectedTo({ stream }: Redis, host: string, port: number): boolean {
  return stream?.remotePort === port && stream.remoteAddress?.replace(/^::ffff:/, '') === host
}

/** Calls `onFailure` with the error of each command that fails. */
export function watchCommands(client: Redis | Cluster, onFailure: (error: Error) => void): void {
  const send = client.sendCommand.bind(client) as (...args: unknown[]) => unknown
  client.sendCommand = ((command: Command, ...rest: unknown[]) => {
    command.promise.then(undefined, onFailure)
    return send(command, ...rest)
  }) as typeof client.sendCommand
}

/**
 * Gives each command of a Cluster one time limit, for finding its node and for all redirections. A command that was
 * written to a connection that ended is not sent again, because the server may have run it.
 *
 * @param wasSent whether a command has been written to a connection of a node
 */
export function limitClusterCommands(cluster: Cluster, limitMs: number, wasSent: (command: Command) => boolean): void {
  const started = new WeakSet<Command>()
  const send = cluster.sendCommand.bind(cluster) as Send
  cluster.sendCommand = ((command: Command, stream?: unknown, node?: unknown) => {
    if (started.has(command)) return send(command, stream, node)
    started.add(command)
    const due = performance.now() + limitMs
    const fail = command.reject
    const reply = send(command, stream, node)
    const retry = command.reject
    command.reject = (error) => {
      if (wasSent(command) && error.message === 'Connection is closed.') return fail(error)
      command.setTimeout(Math.max(1, due - performance.now()))
      retry(error)
    }
    // A client that is closed has rejected it already, and its timer would never be cleared.
    if (!wasSent(command) && !command.isSettled) command.setTimeout(limitMs)
    return reply
  }) as Cluster['sendCommand']
}
