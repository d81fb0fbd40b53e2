import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readEnv } from '../../src/base/env.ts'
import { hostUrls } from '../../src/base/postgres-url.ts'

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
    assert.throws(() => readEnv({ DATABASE_URL: wrong }), { code: 'FLEET_ERR_ENV_INVALID' }, wrong)
})
