import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { serverUrls, withSchema } from '../../src/database/server-url.ts'

const urls = (url: string, hasSearchPath?: () => boolean): readonly string[] =>
  serverUrls(url, 'it', hasSearchPath).urls
const options = (url: string): string | null => new URL(urls(url)[0] ?? '').searchParams.get('options')

describe('the URL of a server for pg', () => {
  it('has none of the parameters that this project applies, and keeps the others', () => {
    const own =
      'connection_limit=3&pool_timeout=4&connect_timeout=5&statement_timeout=6&pgbouncer=true&statement_cache_size=0'
    assert.deepEqual(urls(`postgresql://u:p@h:1/d?${own}&target_session_attrs=read-write&sslmode=require`), [
      'postgresql://u:p@h:1/d?sslmode=require',
    ])
    assert.deepEqual(urls('postgresql://u@h/d?connection_limit=3'), ['postgresql://u@h/d'])
  })

  it('is one per host, each with the same database and parameters', () => {
    assert.deepEqual(urls('postgresql://u@a:1,b:2/d?sslmode=require'), [
      'postgresql://u@a:1/d?sslmode=require',
      'postgresql://u@b:2/d?sslmode=require',
    ])
  })

  it('sets the search path to the schema, quoted and escaped, beside other options', () => {
    assert.equal(options('postgresql://u@h/d?schema=shop'), '-c search_path="shop"')
    assert.equal(
      options('postgresql://u@h/d?schema=shop&options=-c%20work_mem%3D1MB'),
      '-c work_mem=1MB -c search_path="shop"',
    )
    assert.equal(
      options(`postgresql://u@h/d?schema=${encodeURIComponent('a "b" \\c')}`),
      String.raw`-c search_path="a\ ""b""\ \\c"`,
    )
    assert.equal(options('postgresql://u@h/d'), null)
  })

  it('sets no search path for a pooler, which rejects it', () => {
    assert.deepEqual(
      urls('postgresql://u@h/d?schema=shop', () => false),
      ['postgresql://u@h/d'],
    )
  })

  it('is rejected with its name', () => {
    assert.throws(() => serverUrls('mysql://u@h/d', 'the URL of the pool `x`'), {
      code: 'FLEET_ERR_OPTION_INVALID',
      message: /the URL of the pool `x`/,
    })
  })
})

describe('the schema of a replica', () => {
  it('is that of the primary unless its URL has one', () => {
    assert.equal(withSchema('postgresql://u@h/d', 'shop'), 'postgresql://u@h/d?schema=shop')
    assert.equal(withSchema('postgresql://u@h/d?a=b', 'shop'), 'postgresql://u@h/d?a=b&schema=shop')
    assert.equal(withSchema('postgresql://u@h/d?schema=own', 'shop'), 'postgresql://u@h/d?schema=own')
    assert.equal(withSchema('postgresql://u@h/d', undefined), 'postgresql://u@h/d')
  })
})
