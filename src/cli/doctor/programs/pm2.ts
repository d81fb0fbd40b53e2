import { execFile } from 'node:child_process'
import { dirname, resolve } from 'node:path'
import { promisify } from 'node:util'

/** Limits of an evaluation: ms, bytes of JSON, MiB of heap. */
const [longestMs, maxBytes, maxMib] = [10_000, 1_000_000, 128]

/** Loads the file as pm2 does, and prints what it exports. A function is called without arguments. */
const program = `
const { pathToFileURL } = require('node:url')
const denied = () => { throw Object.assign(new Error('the network is not available here'), { code: 'ERR_ACCESS_DENIED' }) }
const { Server, Socket } = require('node:net')
Object.assign(Socket.prototype, { connect: denied })
Object.assign(Server.prototype, { listen: denied })
Object.assign(require('node:dgram').Socket.prototype, { bind: denied, connect: denied, send: denied })
import(pathToFileURL(process.argv[1]).href).then(async (module) => {
  const named = Object.keys(module).filter((name) => name !== 'default' && name !== 'module.exports')
  let value = module.default ?? Object.fromEntries(named.map((name) => [name, module[name]]))
  if (typeof value === 'function') value = await value()
  const text = JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? Number(one) : one)) ?? 'null'
  process.stdout.write('\\n' + text, () => process.exit(0))
}).catch((error) => {
  process.stderr.write('\\n' + String(error?.message ?? error).split('\\n')[0])
  process.exit(1)
})`

export interface Pm2Evaluation {
  readonly value?: unknown
  /** Why there is no value. */
  readonly error?: string
}

interface Failure {
  readonly killed?: boolean
  readonly code?: unknown
  readonly signal?: string | null
  readonly stderr?: string
}

/**
 * Executes an ecosystem file that the user has named, in a process that may read the folder of the file and nothing else: without
 * this process's environment, network, child processes, threads and addons, and bounded in time and memory.
 */
export async function evaluatePm2(file: string, limitMs: number = longestMs): Promise<Pm2Evaluation> {
  const path = resolve(file)
  const folder = dirname(path)
  const args = ['--permission', `--allow-fs-read=${folder}/*`, `--max-old-space-size=${maxMib}`, '--no-warnings']
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [...args, '--eval', program, path], {
      cwd: folder,
      env: {},
      timeout: limitMs,
      killSignal: 'SIGKILL',
      maxBuffer: maxBytes,
    })
    return { value: JSON.parse(stdout.slice(stdout.lastIndexOf('\n') + 1)) }
  } catch (error) {
    const { killed, code, signal, stderr = '' } = error as Failure
    if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return { error: `it has more than ${maxBytes / 1e6} MB` }
    if (killed) return { error: `it did not end within ${limitMs / 1_000} s` }
    if (signal) return { error: `it needs more than ${maxMib} MiB` }
    return { error: stderr.trim().split('\n').at(-1) || 'it cannot be evaluated' }
  }
}
