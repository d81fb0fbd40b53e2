import { once } from 'node:events'
import { lstat, unlink } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { text } from 'node:stream/consumers'
import { FleetError } from '../base/errors.ts'
import { endConnection, guardConnections } from '../base/socket-bounds.ts'

/** The response: one line of JSON. */
interface Outcome {
  readonly ok: boolean
  readonly reason?: string
}

const command = 'reload\n'

/** The command must arrive within this time, in milliseconds. */
const commandTimeoutMs = 5000
const maxConnections = 16

/**
 * Serves `fleet reload` on a Unix socket that only this user and root can open. Unlike a signal, it reports the outcome.
 *
 * @throws FLEET_ERR_CONTROL when another group listens on `path`, or listening there is impossible
 */
export async function serveControl(path: string, reload: () => Promise<void>): Promise<Server> {
  const server = createServer((socket) => {
    const respond = (outcome: Outcome): void => endConnection(socket, `${JSON.stringify(outcome)}\n`)
    socket.setTimeout(commandTimeoutMs, () => socket.destroy())
    let received = ''
    const read = (chunk: string): void => {
      received += chunk
      // The command may arrive in pieces. Reading stops as soon as the input cannot become the command.
      if (received.length < command.length && command.startsWith(received)) return
      socket.off('data', read).setTimeout(0)
      if (received !== command) respond({ ok: false, reason: 'unknown command; expected `reload`' })
      else {
        reload().then(
          () => respond({ ok: true }),
          (error: Error) => respond({ ok: false, reason: error.message }),
        )
      }
    }
    socket.setEncoding('utf8').on('data', read)
  })
  server.maxConnections = maxConnections
  guardConnections(server)
  try {
    await listen(server, path)
  } catch (error) {
    throw new FleetError('FLEET_ERR_CONTROL', `${path}: ${(error as Error).message}`, { cause: error })
  }
  return server
}

async function listen(server: Server, path: string): Promise<void> {
  const attempt = async (): Promise<void> => {
    const mask = process.umask(0o177)
    const listening = once(server.listen(path), 'listening')
    process.umask(mask)
    await listening
  }
  try {
    await attempt()
  } catch (error) {
    // A group that was killed leaves a stale socket, on which no process listens.
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || !(await isStale(path))) throw error
    await unlink(path)
    await attempt()
  }
}

async function isStale(path: string): Promise<boolean> {
  if (!(await lstat(path)).isSocket()) return false
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ECONNREFUSED'
  } finally {
    socket.destroy()
  }
}

/**
 * Asks the group that listens on `path` to reload, and waits for the outcome.
 *
 * @throws FLEET_ERR_RELOAD_FAILED with the reason when the reload was abandoned; FLEET_ERR_CONTROL without a response
 */
export async function askReload(path: string): Promise<void> {
  const outcome = await send(path).catch((error: Error) => {
    throw new FleetError('FLEET_ERR_CONTROL', `${path}: ${error.message}`, { cause: error })
  })
  if (!outcome.ok) throw new FleetError('FLEET_ERR_RELOAD_FAILED', outcome.reason)
}

async function send(path: string): Promise<Outcome> {
  const socket = connect(path)
  socket.write(command)
  const response = await text(socket)
  if (response === '') throw new Error('the group ended without a response')
  const outcome = parse(response)
  if (!outcome) throw new Error('the program that listens there is not `fleet start`')
  return outcome
}

/** Undefined for an invalid response: any program may listen on a path. */
function parse(response: string): Outcome | undefined {
  try {
    const outcome = JSON.parse(response) as Outcome | null
    return typeof outcome?.ok === 'boolean' ? outcome : undefined
  } catch {
    return undefined
  }
}
