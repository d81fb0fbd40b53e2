import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { pair } from '../front.ts'
import { raw, statusOf } from '../raw.ts'
import { attacks } from './odd-requests.ts'

describe('an ambiguous request', async () => {
  const { url, upstream } = await pair({ bufferBytes: 0 })
  const { url: buffering, upstream: second } = await pair()

  for (const [name, bytes] of Object.entries(attacks)) {
    it(`is rejected or forwarded as one request: ${name}`, async () => {
      for (const [front, behind] of [
        [url, upstream],
        [buffering, second],
      ] as const) {
        behind.seen.length = 0
        const text = await raw(front, bytes)
        assert.ok(!behind.seen.includes('GET /smuggled'), behind.seen.join())
        assert.ok(behind.seen.length <= 1, behind.seen.join())
        const responses = text.match(/HTTP\/1\.1 \d{3}/g) ?? []
        assert.ok(responses.length <= 1, text)
        if (behind.seen.length === 0) assert.ok(text === '' || [400, 405, 408, 505].includes(statusOf(text)), text)
      }
    })
  }

  it('does not affect the next request on the upstream connection', async () => {
    const text = await raw(buffering, 'GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    assert.match(text, /"url":"\/next"/)
  })
})

describe('two requests on one connection', () => {
  it('become two requests upstream, with responses in order', async () => {
    const { url, upstream } = await pair()
    const open: Record<string, () => void> = {}
    upstream.handler = (request, response) => {
      open[request.url ?? ''] = () => upstream.response(request, response)
      if (!open['/1'] || !open['/2']) return
      open['/2']()
      setImmediate(open['/1'])
    }
    const text = await raw(
      url,
      'POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    )
    assert.deepEqual(text.match(/"url":"\/\d"/g), ['"url":"/1"', '"url":"/2"'])
  })
})

describe('an ambiguous response', async () => {
  const { url, upstream } = await pair()
  const responses: Record<string, string> = {
    'two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
    'length and chunks':
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
    'a bad chunk size': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n',
    'a header without a colon': 'HTTP/1.1 200 OK\r\nnothing\r\n\r\n',
    'no HTTP': 'hello\r\n\r\n',
    'an unrequested second response': 'HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil',
    'an unrequested upgrade': 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n',
  }
  for (const [name, bytes] of Object.entries(responses)) {
    it(`is not forwarded: ${name}`, async () => {
      upstream.handler = (request) => request.socket.end(bytes)
      const text = await raw(url, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
      assert.doesNotMatch(text, /evil|hello/)
      upstream.handler = (request, response) => upstream.response(request, response)
      const next = await raw(url, 'GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
      assert.match(next, /"url":"\/next"/)
    })
  }
})
