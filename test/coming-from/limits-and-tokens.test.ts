import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { before, describe, it } from 'node:test'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { Project, type Running, secret } from './pages.ts'

const statuses = async (count: number, urls: readonly string[], options?: RequestInit): Promise<number[]> => {
  const found: number[] = []
  for (let i = 0; i < count; i++) found.push((await fetch(urls[i % urls.length] as string, options)).status)
  return found
}
const post = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"name":"ada"}' }

const project = await Project.with([])

describe('pages about limits and tokens', { concurrency: 2 }, () => {
  let env: Record<string, string>

  before(async () => {
    env = { REDIS_URL: (await startRedis()).url }
  })

  const startAll = (page: string, ...names: string[]): Promise<Running[]> => {
    const folder = project.write(page)
    return Promise.all(names.map((name) => project.start(`${folder}/${name}`, env)))
  }

  it('@fastify/rate-limit: two instances allow the limit twice there, and once here', async () => {
    const apps = await startAll('fastify-rate-limit.md', 'before.js', 'before.js', 'after.js', 'after.js')
    const urls = apps.map(({ url }) => url)
    const allowed = async (pair: readonly string[], path: string, options?: RequestInit): Promise<number> => {
      const urls = pair.map((url) => url + path)
      return (await statuses(12, urls, options)).filter((status) => status === 200).length
    }
    for (const [pair, limit] of [
      [urls.slice(0, 2), 8],
      [urls.slice(2), 4],
    ] as const) {
      assert.equal(await allowed(pair, '/'), limit)
      assert.equal(await allowed(pair, '/login', post), limit / 2)
      assert.equal(await allowed(pair, '/free'), 12)
    }
    const [there, here] = await Promise.all([fetch(urls[0] as string), fetch(urls[2] as string)])
    for (const { status, headers } of [there, here]) assert.ok(status === 429 && Number(headers.get('retry-after')) > 0)
    assert.equal(there.headers.get('x-ratelimit-limit'), '4')
    assert.equal(here.headers.get('ratelimit-limit'), '4')
    assert.equal((await here.json()).code, 'FLEET_ERR_RATE_LIMITED')
  })

  it('@fastify/jwt: both apps accept the tokens of each other, and a logout holds on both new instances', async () => {
    const apps = await startAll('fastify-jwt.md', 'before.js', 'after.js', 'after.js')
    const [there, here, other] = apps.map(({ url }) => url) as [string, string, string]
    const login = async (url: string) => (await fetch(`${url}/login`, post)).json()
    const me = (url: string, token: string): Promise<Response> =>
      fetch(`${url}/me`, { headers: { authorization: `Bearer ${token}` } })

    const [old, own] = await Promise.all([login(there), login(here)])
    for (const { token } of [old, own])
      for (const url of [there, here, other])
        assert.deepEqual(await (await me(url, token)).json(), { name: 'ada', role: 'staff' })

    const refresh = { ...post, body: JSON.stringify({ refreshToken: own.refreshToken }) }
    const next = await (await fetch(`${other}/refresh`, refresh)).json()
    assert.equal((await me(here, next.token)).status, 200)
    const logout = { ...post, headers: { ...post.headers, authorization: `Bearer ${next.token}` } }
    assert.equal((await fetch(`${here}/logout`, logout)).status, 200)
    await until(async () => (await me(other, next.token)).status === 401)
    assert.equal((await me(there, next.token)).status, 200)

    assert.equal((await (await fetch(`${there}/me`)).json()).code, 'FST_JWT_NO_AUTHORIZATION_IN_HEADER')
    assert.equal((await (await fetch(`${here}/me`)).json()).code, 'FLEET_ERR_TOKEN_MISSING')
    const iat = Math.floor(Date.now() / 1000)
    for (const [claims, status] of [
      [{ sub: 'ada', iat, exp: iat + 900 }, 200],
      [{ sub: 'ada', iat }, 401],
      [{ iat, exp: iat + 900 }, 401],
      [{ sub: 'ada', iat, exp: iat + 90_000 }, 401],
    ] as const) {
      assert.equal((await me(there, signed(claims))).status, 200)
      assert.equal((await me(here, signed(claims))).status, status)
    }
  })

  it('@fastify/jwt: a logout with a token of the old app holds on both new instances', async () => {
    const apps = await startAll('fastify-jwt.md', 'before.js', 'after.js', 'after.js')
    const [there, here, other] = apps.map(({ url }) => url) as [string, string, string]
    const { token } = await (await fetch(`${there}/login`, post)).json()
    const headers = { ...post.headers, authorization: `Bearer ${token}` }
    assert.equal((await fetch(`${here}/logout`, { ...post, headers })).status, 200)
    await until(async () => (await fetch(`${other}/me`, { headers })).status === 401)
  })
})

function signed(claims: object): string {
  const [header, payload] = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) =>
    Buffer.from(JSON.stringify(part)).toString('base64url'),
  )
  const signature = createHmac('sha256', secret).update(`${header}.${payload}`).digest('base64url')
  return `${header}.${payload}.${signature}`
}
