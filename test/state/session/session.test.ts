import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Redis } from 'ioredis'
import type { SessionOptions } from '../../../src/state/session/index.ts'
import { startRedis } from '../../helpers/redis.ts'
import { build } from './app.ts'
import { Browser } from './browser.ts'
import { contract } from './contract.ts'

let server: ReturnType<typeof startRedis> | undefined

contract('memory', async () => ({ client: null }))
const shared = async (): Promise<{ url: string }> => {
  server ??= startRedis()
  return { url: (await server).url }
}
contract('redis', shared)
contract('redis', shared, { track: true })

for (const [engine, where] of [['memory', async () => ({ client: null })] as const, ['redis', shared] as const])
  test(`${engine}: keeps the old session when the new one is not serializable`, async () => {
    const app = await build(await where())
    app.get('/regenerate', async ({ session }) => {
      session.odd = 1n
      await session.regenerate(['odd'])
    })
    const browser = new Browser()
    await browser.post(app, '/set', { a: 1 })
    const response = await browser.get(app, '/regenerate')
    assert.equal(response.json().code, 'FLEET_ERR_SESSION_VALUE_INVALID')
    assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
    await app.close()
  })

test('redis: keeps the old session when Redis is full', async (t) => {
  const { url } = await shared()
  const client = new Redis(url)
  const app = await build({ url })
  t.after(async () => {
    await client.config('SET', 'maxmemory', '0')
    client.disconnect()
    await app.close()
  })
  app.get('/again', async ({ session }) => session.regenerate(['a']))
  const browser = new Browser()
  await browser.post(app, '/set', { a: 1 })
  await client.config('SET', 'maxmemory', '1')
  assert.equal((await browser.get(app, '/again')).statusCode, 503)
  await client.config('SET', 'maxmemory', '0')
  assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
})

test('supports a custom store that returns no cookie, and handlers that do not use the session', async () => {
  const store: SessionOptions['store'] = {
    get: (_id, done) => done(null, { a: 1 } as never),
    set: (_id, _session, done) => done(),
    destroy: (_id, done) => done(),
  }
  const app = await build({ client: null }, { store })
  app.get('/elsewhere', async () => 'work')
  const browser = new Browser()
  await browser.post(app, '/set', { a: 1 })
  const response = await browser.get(app, '/elsewhere')
  assert.equal(response.body, 'work')
  assert.equal(response.headers['set-cookie'], undefined)
  assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
  await app.close()
})

test('responds 503 without details when a custom store passes on an error of Redis', async () => {
  const texts = [
    'WRONGTYPE Operation against a key holding the wrong kind of value, sess:ann',
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    'NOAUTH Authentication required.',
    'ERR user_script:1 at sess:ann',
  ]
  for (const text of texts) {
    const fail = (...given: unknown[]): void => (given.at(-1) as (error: Error) => void)(new Error(text))
    const app = await build({ client: null }, { store: { get: fail, set: fail, destroy: fail } })
    const response = await new Browser().post(app, '/set', { a: 1 })
    assert.equal(response.statusCode, 503)
    assert.equal(response.json().code, text.startsWith('OOM') ? 'FLEET_ERR_STATE_FULL' : 'FLEET_ERR_STATE_UNAVAILABLE')
    assert.doesNotMatch(response.body, /WRONGTYPE|OOM|READONLY|NOAUTH|ERR |sess:|memory/)
    await app.close()
  }
})
