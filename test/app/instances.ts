import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { launch } from '../../src/cli/up/child.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { until } from '../helpers/until.ts'
import { patientEnv } from '../state/redis/patience.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** The machine's own settings must not reach an app under test. */
const clean = {
  NODE_ENV: undefined,
  REDIS_URL: undefined,
  DATABASE_URL: undefined,
  DATABASE_REPLICA_URLS: undefined,
  FLEET_ALLOW_MEMORY: undefined,
  FLEET_ADMIN_TOKEN: undefined,
  HOST: '127.0.0.1',
  PORT: 0,
  LOG_LEVEL: 'info',
  SESSION_SECRET: randomBytes(32).toString('hex'),
  JWT_SECRET: randomBytes(32).toString('hex'),
  ...patientEnv,
}
export type Env = Record<string, string | number | undefined>

export const fork = (env: Env): App => forkApp(`${root}src/app/main.ts`, { env: { ...clean, ...env }, cwd: root })

export interface Reply {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: tests access known fields
  json: any
  text: string
}

export interface Running {
  readonly child: App
  readonly url: string
  send(path: string, options?: { method?: string; body?: unknown; headers?: Record<string, string> }): Promise<Reply>
}

/** Starts an instance of the reference application and waits until it is ready. */
export async function start(env: Env): Promise<Running> {
  const running = await listening(env)
  await until(async () => (await running.send('/ready')).status === 200, { what: 'readiness' })
  return running
}

/** Starts an instance and waits until it listens, ready or not. */
export async function listening(env: Env): Promise<Running> {
  const child = fork(env)
  const [, url = ''] = await child.waitFor(/listening at (http:\/\/127\.0\.0\.1:\d+)/)
  return {
    child,
    url,
    async send(path, { method = 'GET', body, headers } = {}) {
      const isText = typeof body === 'string'
      const response = await fetch(url + path, {
        method,
        redirect: 'manual',
        headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
        body: body === undefined || isText ? (body as string | undefined) : JSON.stringify(body),
      })
      const text = await response.text()
      const isJson = response.headers.get('content-type')?.startsWith('application/json')
      return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined }
    },
  }
}

/** Creates the tables and the development data, like `npm start`. */
export async function migrated(url: string): Promise<void> {
  const child = launch(process.execPath, [`${root}src/cli/main.ts`, 'migrate', '--seed'], {
    cwd: root,
    env: { DATABASE_URL: url, NODE_ENV: undefined, NODE_TEST_CONTEXT: undefined },
  })
  const { code } = await child.exit
  if (code !== 0) throw new Error(child.stdout + child.stderr)
}

export const credentials = { email: 'test@example.com', password: 'password' }

export interface Login {
  cookie: string
  authorization: string
  refreshToken: string
  userId: string
}

export async function login(app: Running, headers: Record<string, string> = {}): Promise<Login> {
  const {
    status,
    json,
    text,
    headers: sent,
  } = await app.send('/api/v1/auth/login', { method: 'POST', body: credentials, headers })
  if (status !== 200) throw new Error(`login: ${status} ${text}`)
  return {
    cookie: (sent.getSetCookie()[0] ?? '').split(';')[0] ?? '',
    authorization: `Bearer ${json.accessToken}`,
    refreshToken: json.refreshToken,
    userId: json.user.id,
  }
}
