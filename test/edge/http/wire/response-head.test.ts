import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { parseHead } from '../../../../src/edge/http/wire/response-head.ts'

const head = (...lines: string[]): string => ['HTTP/1.1 200 OK', ...lines].join('\r\n')

describe('the head of a response', () => {
  it('has status, reason, headers by lower-case name, duplicates as a list', () => {
    const parsed = parseHead(
      head(
        'Content-Type: text/plain',
        'SET-COOKIE: a=b',
        'set-cookie:\tc=d ',
        'Set-Cookie: e',
        'X-Empty:',
        'X: caf\xe9',
      ),
      false,
    )
    assert.deepEqual(
      { ...parsed?.headers },
      {
        'content-type': 'text/plain',
        'set-cookie': ['a=b', 'c=d', 'e'],
        'x-empty': '',
        x: 'caf\xe9',
      },
    )
    assert.equal(Object.getPrototypeOf(parsed?.headers), null)
    assert.deepEqual([parsed?.status, parsed?.message], [200, 'OK'])
    for (const line of ['HTTP/1.1 200', 'HTTP/1.1 200 ']) {
      assert.deepEqual([parseHead(line, false)?.status, parseHead(line, false)?.message], [200, ''], line)
    }
  })

  for (const [what, text] of Object.entries({
    nothing: '',
    'another protocol': 'HTTP/2 200 OK',
    'another version': 'HTTP/1.2 200 OK',
    'lower case': 'http/1.1 200 OK',
    'a status of two digits': 'HTTP/1.1 20 OK',
    'a status of four digits': 'HTTP/1.1 2000 OK',
    'a status that begins with 0': 'HTTP/1.1 099 OK',
    'two spaces': 'HTTP/1.1  200 OK',
    'a NUL in the reason': 'HTTP/1.1 200 O\0K',
    'no colon': head('nothing'),
    'no name': head(': x'),
    'a space before the colon': head('Content-Length : 5'),
    'a continued line': head('X: y', ' z'),
    'a name that is no token': head('X(y): z'),
    'a NUL in a value': head('X: y\0z'),
    'a bare LF': head('X: y\nContent-Length: 5'),
    'a bare CR': head('X: y\rContent-Length: 5'),
    'two lengths': head('Content-Length: 5', 'Content-Length: 5'),
    'a list of lengths': head('Content-Length: 5, 5'),
    'a signed length': head('Content-Length: +5'),
    'a hexadecimal length': head('Content-Length: 0x5'),
    'an empty length': head('Content-Length:'),
    'a length beyond all numbers': head('Content-Length: 99999999999999999999'),
    'length and chunks': head('Content-Length: 5', 'Transfer-Encoding: chunked'),
    'another coding': head('Transfer-Encoding: gzip'),
    'another coding below': head('Transfer-Encoding: gzip, chunked'),
    'chunks twice': head('Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'),
    'chunks in HTTP/1.0': 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked',
    'an interim status in HTTP/1.0': 'HTTP/1.0 103 Early Hints',
  })) {
    it(`is rejected with ${what}`, () => assert.equal(parseHead(text, false), undefined))
  }

  it('determines the framing of the body', () => {
    const framing = (text: string, bodiless = false): unknown => parseHead(text, bodiless)?.framing
    assert.equal(framing(head('Content-Length: 5')), 5)
    assert.equal(framing(head('Transfer-Encoding: Chunked')), 'chunked')
    assert.equal(framing(head()), 'close')
    assert.equal(framing(head('Content-Length: 5'), true), 0)
    assert.equal(framing(head('Transfer-Encoding: chunked'), true), 0)
    for (const status of [103, 204, 304]) assert.equal(framing(`HTTP/1.1 ${status} X\r\nContent-Length: 5`), 0)
  })

  it('determines whether the connection can be reused', () => {
    const keepAlive = (text: string): unknown => parseHead(text, false)?.keepAlive
    assert.equal(keepAlive(head('Content-Length: 0')), true)
    for (const value of ['close', 'Close', 'x, close']) {
      assert.equal(keepAlive(head('Content-Length: 0', `Connection: ${value}`)), false, value)
    }
    assert.equal(keepAlive(head()), false)
    assert.equal(keepAlive('HTTP/1.0 200 OK\r\nContent-Length: 0'), false)
    assert.equal(keepAlive('HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive'), true)
    assert.equal(parseHead(head('Content-Length: 0', 'Keep-Alive: max=5, timeout=7'), false)?.keepAliveMs, 7000)
  })

  it('keeps no reference to the buffer that it was parsed from', () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    collect()
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < 100; i++) {
      const lines = `HTTP/1.1 200 Reason number ${i}\r\nx-a-rather-long-name-${i}: 1`
      const text = Buffer.from(`${lines}\r\n\r\n${'x'.repeat(1 << 19)}`).toString('latin1')
      assert.ok(parseHead(text.slice(0, lines.length), false))
    }
    collect()
    const grown = process.memoryUsage().heapUsed - before
    assert.ok(grown < 20 << 20, `${grown} bytes`)
  })
})
