import { lstat, unlink } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { text } from 'node:stream/consumers'
import { FleetError } from '../base/errors.ts'
import { endConnection, guardConnections } from '../base/socket-bounds.ts'

/** The answer, as a line of JSON. */
interface Outcome {
  readonly ok: boolean
  readonly reason?: string
}

const question = 'reload\n'

/** The command must arrive within this time, in milliseconds. */
const commandTimeoutMs = 5000
const maxConnections = 16

/**
 * Lets `fleet reload` ask for a reload and hear of its outcome, which a signal cannot carry back: a Unix socket that
 * only this user and root can open.
 *
 * @throws FLEET_ERR_CONTROL when another group listens on `path`, or nobody can
 */
export async function serveControl(path: string, reload: () => Promise<void>): Promise<Server> {
  const server = createServer((socket) => {
    const answer = (outcome: Outcome): void => endConnection(socket, `${JSON.stringify(outcome)}\n`)
    socket.setTimeout(commandTimeoutMs, () => socket.destroy())
    let text = ''
    const read = (chunk: string): void => {
      text += chunk
      // A command may come in pieces; what cannot become the one that there is needs no more reading.
      if (text.length < question.length && question.startsWith(text)) return
      socket.off('data', read).setTimeout(0)
      if (text !== question) answer({ ok: false, reason: 'unknown command; expected `reload`' })
      else {
        reload().then(
          () => answer({ ok: true }),
          (error: Error) => answer({ ok: false, reason: error.message }),
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
  const attempt = (): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject)
      const mask = process.umask(0o177)
      server.listen(path, () => {
        server.off('error', reject)
        resolve()
      })
      process.umask(mask)
    })
  try {
    await attempt()
  } catch (error) {
    // A group that was killed leaves its socket behind: nobody answers on that one.
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || !(await isLeftBehind(path))) throw error
    await unlink(path)
    await attempt()
  }
}

async function isLeftBehind(path: string): Promise<boolean> {
  if (!(await lstat(path)).isSocket()) return false
  return await new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(false)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'))
  })
}

/**
 * Asks the group that listens on `path` to reload, and waits until it has.
 *
 * @throws FLEET_ERR_RELOAD_FAILED when it was abandoned, with the reason; FLEET_ERR_CONTROL when nobody answers
 */
export async function askReload(path: string): Promise<void> {
  const outcome = await ask(path).catch((error: Error) => {
    throw new FleetError('FLEET_ERR_CONTROL', `${path}: ${error.message}`, { cause: error })
  })
  if (!outcome.ok) throw new FleetError('FLEET_ERR_RELOAD_FAILED', outcome.reason)
}

async function ask(path: string): Promise<Outcome> {
  const socket = connect(path)
  socket.write(question)
  const answer = await text(socket)
  if (answer === '') throw new Error('the group ended before it answered')
  const outcome = parse(answer)
  if (!outcome) throw new Error('what listens there is no group')
  return outcome
}

/** Undefined when it is no outcome: any program may listen on a path. */
function parse(answer: string): Outcome | undefined {
  try {
    const outcome = JSON.parse(answer) as Outcome | null
    return typeof outcome?.ok === 'boolean' ? outcome : undefined
  } catch {
    return undefined
  }
}
