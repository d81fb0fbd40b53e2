import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { readEnv } from '../../src/base/env.ts'
import { redisUrl, sentinels } from '../../src/base/redis-url.ts'

const reject = (problem: string): never => {
  throw new Error(problem)
}

describe('the URL of Redis', () => {
  const local = { host: '127.0.0.1', port: 6379, db: 0, isTls: false }
  const accepted: [string, object][] = [
    ['redis://', local],
    ['redis://cache.example:6380', { ...local, host: 'cache.example', port: 6380 }],
    ['redis://127.0.0.1/2', { ...local, db: 2 }],
    ['redis://127.0.0.1?db=3', { ...local, db: 3 }],
    ['redis://127.0.0.1/?db=3', { ...local, db: 3 }],
    ['redis://127.0.0.1/3?db=3', { ...local, db: 3 }],
    ['redis://127.0.0.1/0?family=6', { ...local, family: 6 }],
    ['redis://127.0.0.1?family=0&db=1', { ...local, db: 1, family: 0 }],
    ['rediss://[::1]:6380', { ...local, host: '::1', port: 6380, isTls: true }],
    ['redis://fleet:p%40ss@127.0.0.1', { ...local, username: 'fleet', password: 'p@ss' }],
    ['unix:///run/my%20redis.sock?db=2', { path: '/run/my redis.sock', db: 2, isTls: false }],
  ]
  for (const [url, expected] of accepted)
    it(`uses every part of ${url}`, () => assert.deepEqual(redisUrl(url, reject), expected))

  const rejected: [string, RegExp][] = [
    ['redis://127.0.0.1?keyPrefix=x', /`\?keyPrefix=`, which is not supported; supported are db, family/],
    ['redis://127.0.0.1/2?connectTimeout=9000', /`\?connectTimeout=`/],
    ['redis://127.0.0.1?tls=true', /`\?tls=`/],
    ['redis://127.0.0.1?__proto__=1', /after `\?`/],
    ['redis://127.0.0.1?db=x', /invalid value in the part `\?db=`/],
    ['redis://127.0.0.1?db=-1', /`\?db=`/],
    ['redis://127.0.0.1?family=5', /`\?family=`/],
    ['redis://127.0.0.1?db=1&db=2', /`\?db=` twice/],
    ['redis://127.0.0.1/1?db=2', /two databases/],
    ['redis://127.0.0.1/main', /path that is not the number/],
    ['redis://127.0.0.1/1#x', /after `#`/],
    ['redis://one,two', /host:port/],
    ['redis://one:0', /host:port/],
    ['redis-sentinel://one', /must look like/],
    ['unix://host/run/redis.sock', /must look like/],
    ['unix:///run/redis.sock?family=9', /`\?family=`/],
    ['127.0.0.1:6379', /must look like/],
  ]
  for (const [url, message] of rejected)
    it(`rejects ${url} and names the part`, () => {
      assert.throws(() => redisUrl(url, reject), { message })
      assert.throws(() => Object.values(readEnv({ REDIS_URL: url })), {
        code: 'FLEET_ERR_ENV_INVALID',
        message: /: REDIS_URL /,
      })
    })

  it('shows no part of a password with an unescaped ? or #', () => {
    for (const url of ['redis://u:12?hunter2@host', 'redis://u:12#hunter2@host', 'redis://u:1/hunter2@host'])
      assert.throws(
        () => Object.values(readEnv({ REDIS_URL: url })),
        ({ message }: Error) => !message.includes('hunter2'),
      )
  })
})

describe('the addresses of sentinels and nodes', () => {
  it('are a list with an optional name of the primary', () => {
    const nodes = [
      { host: 'a', port: 1 },
      { host: '::1', port: 26_379 },
    ]
    assert.deepEqual(sentinels('a:1, [::1]', reject), { name: 'mymaster', nodes })
    assert.deepEqual(sentinels('main@a:1,[::1]', reject), { name: 'main', nodes })
  })

  for (const entry of [
    'a:0',
    'a:70000',
    'a:x',
    ':1',
    'a b',
    '::1',
    '[::1',
    'redis://a:1',
    'a:1/2',
    'a:1?x=1',
    ':pw@a:1',
    '',
  ]) {
    it(`reject ${JSON.stringify(entry)}, naming the variable`, () => {
      for (const name of ['REDIS_SENTINELS', 'REDIS_CLUSTER'])
        assert.throws(() => Object.values(readEnv({ [name]: `b:1,${entry}` })), {
          code: 'FLEET_ERR_ENV_INVALID',
          message: new RegExp(`: ${name} `),
        })
    })
  }

  it('reject two names and an empty name of the primary', () => {
    for (const given of ['x@y@a:1', '@a:1'])
      assert.throws(() => Object.values(readEnv({ REDIS_SENTINELS: given })), { code: 'FLEET_ERR_ENV_INVALID' })
  })

  it('reject a REDIS_HOST with a port, a scheme or a path', () => {
    for (const given of ['a:6379', 'redis://a', '/run/redis.sock', 'a,b'])
      assert.throws(() => Object.values(readEnv({ REDIS_HOST: given })), {
        code: 'FLEET_ERR_ENV_INVALID',
        message: /REDIS_HOST/,
      })
    assert.equal(readEnv({ REDIS_HOST: '::1' }).REDIS_HOST, '::1')
  })
})
