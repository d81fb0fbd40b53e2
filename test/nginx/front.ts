import '../helpers/cleanup.ts'
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { type IncomingHttpHeaders, request } from 'node:http'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { type Program, provide } from '../../src/cli/up/install.ts'
import { nginxProgram } from '../../src/cli/up/nginx.ts'
import { probePort, type Server, startServer } from '../../src/cli/up/server.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'

const script = (name: string): string => fileURLToPath(new URL(`../../scripts/${name}`, import.meta.url))

/** Values of nginx/nginx.env, and the instance lists of scripts/nginx-render. */
export type Values = Record<string, string | number>

export interface Front {
  readonly url: string
  readonly port: number
  readonly folder: string
  readonly server: Server
  send(path: string, options?: Ask): Promise<FrontResponse>
  /** The access log so far, parsed line by line. */
  log(): Record<string, string | number>[]
  /** Renders with changed values, and reloads. */
  reload(values: Values): Promise<void>
}

/** nginx with the stream module (layer 4), which is a separate package in Debian. */
const nginxWithStream: Program = {
  ...nginxProgram,
  complete: (path) => {
    const { stderr } = spawnSync(path, ['-V'], { encoding: 'utf8' })
    const modules = /--modules-path=(\S+)/.exec(stderr)?.[1]
    return !stderr.includes('--with-stream=dynamic') || existsSync(join(modules ?? '', 'ngx_stream_module.so'))
  },
}

/** The nginx under test: `FLEET_TEST_NGINX`, or the installed one. */
export const nginx = (): Promise<string> => provide(nginxWithStream, { program: process.env.FLEET_TEST_NGINX })

/** Whether nginx has this version or a later one. */
export async function isAtLeast(wanted: readonly [number, number, number], program?: string): Promise<boolean> {
  const child = launch(program ?? (await nginx()), ['-v'])
  await child.exit
  const version = /nginx\/(\d+)\.(\d+)\.(\d+)/.exec(child.stderr)?.slice(1).map(Number) ?? []
  const weigh = (parts: readonly number[]): number => parts.reduce((sum, part) => sum * 1000 + part, 0)
  return weigh(version) >= weigh(wanted)
}

/** Runs a script of this project to its end. */
export async function run(name: string, args: readonly string[], values: Values): Promise<string> {
  const env = Object.fromEntries(Object.entries(values).map(([key, value]) => [key, String(value)]))
  const child = launch(script(name), args, { env })
  const { code } = await child.exit
  if (code !== 0) throw new Error(`${name} ended with ${code}: ${child.stderr}`)
  return child.stdout
}

export async function render(values: Values, program?: string): Promise<string> {
  const folder = temporaryFolder('nginx')
  // Workers run as another user when this one is root.
  await chmod(folder, 0o711)
  await run('nginx-render', [folder], { NGINX: program ?? (await nginx()), ...values })
  return folder
}

/** Checks the configuration. @returns nginx's output if it is invalid */
export async function check(folder: string): Promise<string | undefined> {
  const child = launch(await nginx(), [...where(folder), '-t'])
  const { code } = await child.exit
  return code === 0 ? undefined : child.stderr
}

const where = (folder: string): string[] => ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr']

/**
 * Starts nginx with the shipped files, rendered with these values. Limits are effectively off unless a test sets them.
 *
 * @param other another nginx than the one under test
 */
export async function startFront(given: Values, other?: string): Promise<Front> {
  const values: Values = {
    FLEET_LISTEN: '127.0.0.1',
    FLEET_HTTP_PORT: await freePort(),
    FLEET_WORKERS: 2,
    FLEET_RATE: '100000r/s',
    FLEET_API_RATE: '100000r/s',
    FLEET_AUTH_RATE: '100000r/s',
    ...given,
  }
  const port = Number(values.FLEET_HTTP_PORT)
  const program = other ?? (await nginx())
  const folder = await render(values, program)
  const server = await startServer({
    title: 'nginx',
    port,
    folder,
    program,
    start: () => launch(program, [...where(folder), '-g', 'daemon off;']),
    // nginx listens on one port after the other, and then writes the file, which is empty until then.
    isUp: async () => processId(folder) > 0 && (await probePort(port)),
  })
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    folder,
    server,
    send: (path, options) => sendRequest(port, path, options),
    log: () => {
      const file = join(folder, 'run/access.log')
      const lines = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : []
      return lines.filter((line) => line !== '').map((line) => JSON.parse(line))
    },
    reload: async (changed) => {
      await run('nginx-render', [folder], { NGINX: program, ...values, ...changed })
      // Not the process of the server, which is the client of Docker for an image.
      const main = processId(folder)
      const before = workers(main)
      await server.kill('SIGHUP')
      await until(() => workers(main).some((pid) => !before.includes(pid)), { what: 'new workers' })
    },
  }
}

/** Of the main process; 0 before it runs. */
const processId = (folder: string): number => {
  const file = join(folder, 'run/nginx.pid')
  return existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0
}
const workers = (pid: number): string[] => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')

export interface Ask {
  method?: string
  headers?: Record<string, string>
  body?: string
}

export interface FrontResponse {
  status: number
  headers: IncomingHttpHeaders
  body: string
  /** The instance that responded, by its name in {@link startUpstream}. */
  by: string | undefined
}

/** One request on its own connection. The path is sent unchanged. */
export function sendRequest(
  port: number,
  path: string,
  { method = 'GET', headers, body }: Ask = {},
): Promise<FrontResponse> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, method, path, headers, agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      response.once('error', reject)
      response.once('end', () => {
        const { statusCode: status = 0, headers } = response
        resolve({ status, headers, body: text, by: headers['x-instance-id']?.toString() })
      })
    })
    sent.once('error', reject)
    sent.end(body)
  })
}

/** How many of `count` requests each instance serves; all must succeed. */
export async function tally(
  count: number,
  once: (turn: number) => Promise<FrontResponse>,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (let turn = 0; turn < count; turn++) {
    const { status, by = '', body } = await once(turn)
    assert.equal(status, 200, body)
    counts[by] = (counts[by] ?? 0) + 1
  }
  return counts
}

/** Certificates of a development authority, and the files for OCSP. */
export async function makeCertificates(ocspUrl?: string): Promise<string> {
  const folder = temporaryFolder('tls')
  await run('make-dev-certs', [folder, 'localhost', '127.0.0.1'], ocspUrl ? { OCSP_URL: ocspUrl } : {})
  return folder
}

export const tlsValues = (folder: string): Values => ({
  FLEET_SITE: 'https',
  FLEET_TLS_CERTIFICATE: join(folder, 'fullchain.pem'),
  FLEET_TLS_KEY: join(folder, 'key.pem'),
  FLEET_TLS_CHAIN: join(folder, 'chain.pem'),
})

export const root: string = dirname(script('.'))
