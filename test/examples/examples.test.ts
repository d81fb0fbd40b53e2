import assert from 'node:assert/strict'
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import WebSocket from 'ws'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { npm, packed } from '../helpers/packed.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'

// Every folder of examples/ runs with the packed package, two instances of it with one Redis.

const root = fileURLToPath(new URL('../..', import.meta.url))
const project = temporaryFolder('examples')
const uploads = join(project, 'shared')
const secret = 'a secret for tests of more than 32 bytes'
const json = { 'content-type': 'application/json' }
const post = (url: string, body: object, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(url, { method: 'POST', headers: { ...json, ...headers }, body: JSON.stringify(body) })
const cookieOf = (response: Response): string => response.headers.getSetCookie()[0]?.split(';')[0] ?? ''

/** What each example shows. `a` and `b` are the addresses of two instances. */
const checks: Record<string, (a: string, b: string) => Promise<void>> = {
  login: async (a, b) => {
    const login = await post(`${a}/login`, { name: 'ada', password: 'engine' })
    const headers = { cookie: cookieOf(login) }
    assert.equal((await (await fetch(`${b}/me`, { headers })).json()).name, 'ada')
    assert.equal((await post(`${b}/logout-everywhere`, {}, headers)).status, 200)
    assert.equal((await fetch(`${a}/me`, { headers })).status, 401)
    assert.equal((await post(`${a}/login`, { name: 'ada', password: 'wrong' })).status, 401)
  },
  'token-api': async (a, b) => {
    const first = await (await post(`${a}/token`, { name: 'ada', password: 'engine' })).json()
    const next = await (await post(`${b}/token/refresh`, { refreshToken: first.refreshToken })).json()
    const headers = { authorization: `Bearer ${next.accessToken}` }
    assert.deepEqual(await (await fetch(`${a}/me`, { headers })).json(), { user: 'ada', role: 'staff' })
    assert.equal((await post(`${a}/token/revoke`, {}, headers)).status, 200)
    await until(async () => (await fetch(`${b}/me`, { headers })).status === 401)
  },
  'websocket-chat': async (a, b) => {
    const [one, other] = [a, b].map((url) => new WebSocket(`${url.replace('http', 'ws')}/ws`)) as [WebSocket, WebSocket]
    await Promise.all([one, other].map((socket) => new Promise((resolve) => socket.once('open', resolve))))
    const seen = new Promise((resolve) => other.once('message', (data) => resolve(JSON.parse(String(data)).text)))
    one.send('hello')
    assert.equal(await seen, 'hello')
    for (const socket of [one, other]) socket.terminate()
  },
  'server-sent-events': async (a, b) => {
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
  },
  uploads: async (a) => {
    const body = Buffer.alloc(3_000_000, 1)
    const response = await fetch(`${a}/files/big`, {
      method: 'PUT',
      headers: { 'content-type': 'application/octet-stream' },
      body,
    })
    assert.equal((await response.json()).bytes, body.length)
  },
  'static-front': async (a, b) => {
    const page = await fetch(a)
    assert.match(await page.text(), /<h1>Visits/)
    const visit = await fetch(`${a}/api/visits`)
    const again = await fetch(`${b}/api/visits`, { headers: { cookie: cookieOf(visit) } })
    assert.equal((await again.json()).visits, 2)
  },
  opentelemetry: async (a) => {
    assert.match((await (await fetch(a)).json()).trace, /^[\da-f]{32}$/)
  },
  'client-side-balancing': async (a, b) => {
    const client = forkApp(join(project, 'client-side-balancing/client.js'), { env: { TARGETS: `${a},${b}` } })
    assert.equal((await client.exit).code, 0, client.stderr)
    const counts: Record<string, number> = JSON.parse(client.stdout)
    assert.equal(Object.keys(counts).length, 2)
    assert.equal(
      Object.values(counts).reduce((sum, count) => sum + count),
      300,
    )
  },
}

describe('examples', () => {
  const names = readdirSync(join(root, 'examples'))
  let redis: { url: string }

  before(async () => {
    redis = await startRedis()
    const tarball = await packed()
    const dependencies = Object.assign(
      {},
      ...names.map(
        (name) => JSON.parse(readFileSync(join(root, 'examples', name, 'package.json'), 'utf8')).dependencies,
      ),
      { 'fastify-fleet': `file:${tarball}` },
    )
    // One installation for all: Node finds packages in the folder above.
    writeFileSync(join(project, 'package.json'), JSON.stringify({ private: true, type: 'module', dependencies }))
    for (const name of names) cpSync(join(root, 'examples', name), join(project, name), { recursive: true })
    npm(['install', '--prefer-offline', '--no-audit', '--no-fund'], project)
  })

  it('have a check each', () => {
    assert.deepEqual(Object.keys(checks).sort(), names.sort())
  })

  for (const name of names) {
    it(`${name} does what its README says`, async () => {
      const start = async (): Promise<string> => {
        const port = await freePort()
        const env = { PORT: port, REDIS_URL: redis.url, SESSION_SECRET: secret, JWT_SECRET: secret, UPLOADS: uploads }
        forkApp(join(project, name, 'app.js'), { env, cwd: join(project, name) })
        const url = `http://127.0.0.1:${port}`
        await until(async () => (await fetch(`${url}/ready`)).ok, { what: `${name} to be ready` })
        return url
      }
      const [a, b] = await Promise.all([start(), start()])
      await checks[name]?.(a, b)
    })

    it(`${name} has a README with its purpose and how to run it`, () => {
      const text = readFileSync(join(root, 'examples', name, 'README.md'), 'utf8')
      assert.match(text, /^# .+\n\n[\s\S]+## Run it\n/)
    })
  }
})
