import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { readEnv } from '../../src/base/env.ts'

describe('environment', () => {
  it('parses types and treats empty values as not set', () => {
    const env = readEnv({
      PORT: '8080',
      REDIS_URL: 'redis://127.0.0.1:6379',
      SESSION_SECRET: 'one, two',
      FLEET_ALLOW_MEMORY: '1',
      REDIS_HOST: '',
    })
    assert.equal(env.PORT, 8080)
    assert.deepEqual(env.SESSION_SECRET, ['one', 'two'])
    assert.equal(env.FLEET_ALLOW_MEMORY, true)
    assert.equal(env.REDIS_HOST, undefined)
    assert.equal(env.production, false)
  })

  it('combines both ways to name replicas', () => {
    const env = readEnv({
      DATABASE_URL_REPLICA_10: 'postgres://c/d',
      DATABASE_URL_REPLICA_2: 'postgres://b/d',
      DATABASE_REPLICA_URLS: 'postgres://a/d',
    })
    assert.deepEqual(env.DATABASE_REPLICA_URLS, ['postgres://a/d', 'postgres://b/d', 'postgres://c/d'])
  })

  for (const [name, value] of [
    ['PORT', 'eighty'],
    ['PORT', '70000'],
    ['DRAIN_DELAY', '-1'],
    ['SHUTDOWN_TIMEOUT', '30s'],
    ['REDIS_URL', 'localhost:6379'],
    ['DATABASE_URL', 'mysql://a/b'],
    ['DATABASE_REPLICA_URLS', 'nonsense'],
    ['INSTANCE_ID', 'a b'],
    ['SESSION_COOKIE_NAME', 'a;b'],
    ['SESSION_COOKIE_SECURE', 'maybe'],
    ['TRUST_PROXY', '10.0.0.1,,'],
    ['LOG_LEVEL', 'loud'],
    ['REDIS_TLS', 'yes please'],
  ] as const) {
    it(`rejects ${name}=${value} and names the variable`, () => {
      assert.throws(() => Object.values(readEnv({ [name]: value })), {
        code: 'FLEET_ERR_ENV_INVALID',
        message: new RegExp(name.split('_URL')[0] ?? name),
      })
    })
  }

  it('rejects a primary that is named DATABASE_URL_MASTER only', () => {
    const DATABASE_URL_MASTER = 'postgresql://a/b'
    assert.throws(() => readEnv({ DATABASE_URL_MASTER }).DATABASE_URL, {
      code: 'FLEET_ERR_ENV_INVALID',
      message: /name the primary DATABASE_URL/,
    })
    assert.equal(readEnv({ DATABASE_URL: 'postgresql://c/d', DATABASE_URL_MASTER }).DATABASE_URL, 'postgresql://c/d')
    assert.equal(readEnv({ DATABASE_URL_MASTER }).PORT, undefined)
  })
})
