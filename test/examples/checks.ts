import assert from 'node:assert/strict'
import { join } from 'node:path'
import WebSocket from 'ws'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { until } from '../helpers/until.ts'
import { patientEnv } from '../state/redis/patience.ts'
import { kubernetes } from './kubernetes-pod.ts'
import { prismaReplicas } from './prisma-replicas.ts'
import { cookieOf, post } from './requests.ts'

export type Env = Record<string, string | number | undefined>

/** Two instances that run, besides their addresses. */
export interface Started {
  /** The folder of the example, installed. */
  readonly folder: string
  readonly apps: readonly [App, App]
  readonly envs: readonly [Env, Env]
}

export interface Example {
  /** Starts further servers, while the packages are installed. */
  readonly before?: () => Promise<unknown>
  /** Further variables of one instance. */
  readonly env?: (folder: string) => Promise<Env> | Env
  /** Asserts what the README says. @param a and b: addresses of two instances */
  readonly check: (a: string, b: string, started: Started) => Promise<void>
}

const login = async (a: string, b: string): Promise<void> => {
  const response = await post(`${a}/login`, { name: 'ada', password: 'engine' })
  const headers = { cookie: cookieOf(response) }
  assert.equal((await (await fetch(`${b}/me`, { headers })).json()).name, 'ada')
  assert.equal((await post(`${b}/logout-everywhere`, {}, headers)).status, 200)
  assert.equal((await fetch(`${a}/me`, { headers })).status, 401)
  assert.equal((await post(`${a}/login`, { name: 'ada', password: 'wrong' })).status, 401)
}

const tokenApi = async (a: string, b: string): Promise<void> => {
  const first = await (await post(`${a}/token`, { name: 'ada', password: 'engine' })).json()
  const next = await (await post(`${b}/token/refresh`, { refreshToken: first.refreshToken })).json()
  const headers = { authorization: `Bearer ${next.accessToken}` }
  assert.deepEqual(await (await fetch(`${a}/me`, { headers })).json(), { user: 'ada', role: 'staff' })
  assert.equal((await post(`${a}/token/revoke`, {}, headers)).status, 200)
  await until(async () => (await fetch(`${b}/me`, { headers })).status === 401)
}

const webSocketChat = async (a: string, b: string): Promise<void> => {
  const [one, other] = [a, b].map((url) => new WebSocket(`${url.replace('http', 'ws')}/ws`)) as [WebSocket, WebSocket]
  await Promise.all([one, other].map((socket) => new Promise((resolve) => socket.once('open', resolve))))
  const seen: unknown[] = []
  other.on('message', (data) => seen.push(JSON.parse(String(data)).text))
  one.send('hello')
  await until(() => seen.length > 0, { what: 'a message of the other instance' }).finally(() => {
    for (const socket of [one, other]) socket.terminate()
  })
  assert.deepEqual(seen, ['hello'])
}

const serverSentEvents = async (a: string, b: string): Promise<void> => {
  const abort = new AbortController()
  const { body } = await fetch(`${a}/events`, { signal: abort.signal })
  let text = ''
  const read = (async () => {
    for await (const chunk of body as AsyncIterable<Uint8Array>) text += Buffer.from(chunk).toString()
  })().catch(() => {})
  await post(`${b}/prices`, { product: 'tea', cents: 350 })
  await until(() => text.includes('data: {"product":"tea","cents":350}'))
  abort.abort()
  await read
}

const uploads = async (a: string): Promise<void> => {
  const body = Buffer.alloc(3_000_000, 1)
  const headers = { 'content-type': 'application/octet-stream' }
  const response = await fetch(`${a}/files/big`, { method: 'PUT', headers, body })
  assert.equal((await response.json()).bytes, body.length)
}

const staticFront = async (a: string, b: string): Promise<void> => {
  assert.match(await (await fetch(a)).text(), /<h1>Visits/)
  const visit = await fetch(`${a}/api/visits`)
  const again = await fetch(`${b}/api/visits`, { headers: { cookie: cookieOf(visit) } })
  assert.equal((await again.json()).visits, 2)
}

const openTelemetry = async (a: string): Promise<void> => {
  assert.match((await (await fetch(a)).json()).trace, /^[\da-f]{32}$/)
}

const clientSideBalancing = async (a: string, b: string, { folder }: Started): Promise<void> => {
  const client = forkApp(join(folder, 'client.js'), { env: { TARGETS: `${a},${b}` } })
  assert.equal((await client.exit).code, 0, client.stderr)
  const counts: Record<string, number> = JSON.parse(client.stdout)
  assert.equal(Object.keys(counts).length, 2)
  assert.equal(
    Object.values(counts).reduce((sum, count) => sum + count),
    300,
  )
}

const visits = async (a: string, b: string): Promise<void> => {
  const visit = await fetch(a)
  const again = await (await fetch(b, { headers: { cookie: cookieOf(visit) } })).json()
  assert.equal(again.visits, 2)
  assert.notEqual(again.servedBy, (await visit.json()).servedBy)
}

const jobQueue = async (a: string, b: string, { apps }: Started): Promise<void> => {
  const workers = new Set<string>()
  const sendMails = async (): Promise<void> => {
    const mails = Array.from({ length: 20 }, () => post(`${a}/mails`, { to: 'ada@example.com' }))
    for (const mail of await Promise.all(mails)) {
      const { id } = await mail.json()
      const job = await until(async () => {
        const found = await (await fetch(`${b}/jobs/${id}`)).json()
        return found.state === 'completed' && found
      })
      workers.add(job.result.sentBy)
    }
  }
  // One worker may complete all mails before the other has looked.
  await until(() => sendMails().then(() => workers.size === 2), { what: 'a job on each of both workers' })

  type Report = { tick: number; queuedBy: string }
  const reports = async (url: string): Promise<Report[]> => (await fetch(`${url}/reports`)).json()
  await until(async () => (await reports(a)).length >= 3)
  const seen = await reports(b)
  const leaders = [...new Set(seen.map(({ queuedBy }) => queuedBy))]
  assert.equal(leaders.length, 1, 'one instance adds the reports')
  assert.equal(new Set(seen.map(({ tick }) => tick)).size, seen.length)

  const idOf = async (url: string): Promise<string | null> => (await fetch(url)).headers.get('x-instance-id')
  const [leader, survivor] = (await idOf(a)) === leaders[0] ? [apps[0], b] : [apps[1], a]
  await leader.kill('SIGTERM')
  assert.deepEqual(leader.ended, { code: 0, signal: null })
  await until(async () => (await reports(survivor)).some(({ queuedBy }) => queuedBy !== leaders[0]))
}

const secret = 'a secret for tests of more than 32 bytes'
/** Variables of every instance. */
export const common: Env = { SESSION_SECRET: secret, JWT_SECRET: secret, ...patientEnv }

/** By name of the folder; the longest first, because some run at the same time. */
export const checks: Readonly<Record<string, Example>> = {
  'prisma-replicas': prismaReplicas,
  kubernetes,
  'job-queue': { check: jobQueue, env: () => ({ REPORT_EVERY_MS: 300 }) },
  'client-side-balancing': { check: clientSideBalancing },
  compose: { check: visits },
  login: { check: login },
  opentelemetry: { check: openTelemetry },
  'server-sent-events': { check: serverSentEvents },
  'static-front': { check: staticFront },
  'token-api': { check: tokenApi },
  uploads: { check: uploads, env: (folder) => ({ UPLOADS: join(folder, 'shared') }) },
  'websocket-chat': { check: webSocketChat },
}
