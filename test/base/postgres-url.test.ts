import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readEnv } from '../../src/base/env.ts'
import { hostUrls, postgresSettings } from '../../src/base/postgres-url.ts'

test('splits a URL with several hosts into one URL each', () => {
  const cases: [string, string[]][] = [
    ['postgresql://one/shop', ['postgresql://one/shop']],
    [
      'postgresql://a:b@one:1,two:2/shop?x=1,2',
      ['postgresql://a:b@one:1/shop?x=1,2', 'postgresql://a:b@two:2/shop?x=1,2'],
    ],
    ['postgres://a:b,c@one/shop', ['postgres://a:b,c@one/shop']],
    ['postgres://[::1]:1,[::2]', ['postgres://[::1]:1', 'postgres://[::2]']],
    ['nonsense', ['nonsense']],
  ]
  for (const [url, expected] of cases) assert.deepEqual(hostUrls(url), expected, url)
})

test('accepts several hosts in DATABASE_URL', () => {
  const DATABASE_URL = 'postgresql://a:b@one:1,two:2/shop'
  assert.equal(readEnv({ DATABASE_URL }).DATABASE_URL, DATABASE_URL)
  for (const wrong of ['postgresql://one:1,two:x/shop', 'mysql://one,two/shop', 'nonsense'])
    assert.throws(() => Object.values(readEnv({ DATABASE_URL: wrong })), { code: 'FLEET_ERR_ENV_INVALID' }, wrong)
})

const reject = (problem: string): never => {
  throw new Error(problem)
}

test('uses the parameters of a PostgreSQL URL', () => {
  const parameters = [
    'schema=shop&connection_limit=3&connect_timeout=5&pool_timeout=20&statement_timeout=1500&pgbouncer=true',
    'sslmode=verify-full&sslrootcert=/ca.pem&application_name=shop&options=-c%20geqo%3Doff&host=/run/postgresql',
  ]
  const { schema, connectionLimit, connectTimeoutMs, poolTimeoutMs, statementTimeoutMs, pgbouncer, isWritable } =
    postgresSettings(`postgresql://u:p@db/shop?${parameters.join('&')}`, reject)
  assert.deepEqual([schema, connectionLimit, pgbouncer, isWritable], ['shop', 3, true, false])
  assert.deepEqual([connectTimeoutMs, poolTimeoutMs, statementTimeoutMs], [5_000, 20_000, 1_500])
})

test('prefers a server that accepts writes if there are several, or if the URL says so', () => {
  const isWritable = (url: string): boolean => postgresSettings(url, reject).isWritable
  assert.equal(isWritable('postgres://one,two/shop'), true)
  assert.equal(isWritable('postgres://one,two/shop?target_session_attrs=any'), false)
  assert.equal(isWritable('postgres://one/shop?target_session_attrs=read-write'), true)
})

test('accepts a socket without a host', () => {
  for (const url of [
    'postgresql://u:p@/shop?host=/cloudsql/a:b',
    'postgresql:///shop?host=/tmp',
    'postgres://%2Ftmp/shop',
  ])
    postgresSettings(url, reject)
})

test('rejects parts of a PostgreSQL URL without an effect, and names them', () => {
  const cases: [string, RegExp][] = [
    ['postgresql://db/shop?currentSchema=shop', /`\?currentSchema=`, which is not supported/],
    ['postgresql://db/shop?sslaccept=strict', /`\?sslaccept=`/],
    ['postgresql://db/shop?channel_binding=require', /`\?channel_binding=`/],
    ['postgresql://db/shop?sslmode=maybe', /invalid value in the part `\?sslmode=`/],
    ['postgresql://db/shop?ssl=false', /`\?ssl=`/],
    ['postgresql://db/shop?schema=', /`\?schema=`/],
    ['postgresql://db/shop?connection_limit=0', /`\?connection_limit=`/],
    ['postgresql://db/shop?connect_timeout=0', /`\?connect_timeout=`/],
    ['postgresql://db/shop?pool_timeout=1.5', /`\?pool_timeout=`/],
    ['postgresql://db/shop?target_session_attrs=standby', /`\?target_session_attrs=`/],
    ['postgresql://db/shop?schema=a&schema=b', /`\?schema=` twice/],
    ['postgresql://one,two/shop?host=/tmp', /several hosts/],
    ['postgresql://db/shop#x', /after `#`/],
    ['postgresql://u:50%off@db/shop', /must be a URL/],
  ]
  for (const [url, message] of cases) {
    assert.throws(() => postgresSettings(url, reject), { message }, url)
    for (const name of ['DATABASE_URL', 'DATABASE_URL_REPLICA_2', 'DATABASE_REPLICA_URLS']) {
      if (name === 'DATABASE_REPLICA_URLS' && url.includes(',')) continue
      const problem = { code: 'FLEET_ERR_ENV_INVALID', message: new RegExp(`: ${name} `) }
      assert.throws(() => Object.values(readEnv({ [name]: url })), problem, url)
    }
  }
})
