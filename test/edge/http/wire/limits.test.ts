import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ChunkedDecoder } from '../../../../src/edge/http/wire/chunks.ts'
import { headersFrom, parseTrailers } from '../../../../src/edge/http/wire/fields.ts'
import { parseHead } from '../../../../src/edge/http/wire/response-head.ts'

/** The length of the decoded body; undefined when the coding is rejected or incomplete. */
function decode(maxTrailerBytes: number, ...pieces: string[]): number | undefined {
  let length = 0
  const chunks = new ChunkedDecoder(maxTrailerBytes, (data) => {
    length += data.length
  })
  for (const piece of pieces) if (chunks.read(Buffer.from(piece, 'latin1')) < 0) return undefined
  return chunks.trailers && length
}

/** The bytes read of a coding that is not complete; -1 when it is rejected. */
const readOf = (text: string): number => new ChunkedDecoder(100, () => {}).read(Buffer.from(text, 'latin1'))

const last = '0\r\n\r\n'
const head = (...lines: string[]): string => ['HTTP/1.1 200 OK', ...lines].join('\r\n')

describe('the limits of the chunked coding', () => {
  it('allow a size line of 1024 bytes with its end, whole or in pieces', () => {
    for (const [length, expected] of [
      [1024, 1],
      [1025, undefined],
    ] as const) {
      const line = `1;${'x'.repeat(length - 4)}\r\n`
      assert.equal(line.length, length)
      assert.equal(decode(100, `${line}a\r\n${last}`), expected, String(length))
      assert.equal(decode(100, ...`${line}a\r\n${last}`), expected, String(length))
    }
    assert.equal(readOf('1'.padEnd(1024, ';')), 1024)
    assert.equal(readOf('1'.padEnd(1025, ';')), -1)
  })

  it('allow 16 KiB of extensions in a body', () => {
    const sixteenth = `1;${'x'.repeat(1019)}\r\na\r\n`
    const of = (bytes: number): string => `${sixteenth.repeat(16)}1;${'x'.repeat(bytes - 1)}\r\na\r\n${last}`
    assert.equal(decode(100, of(16_384 - 16 * 1020)), 17)
    assert.equal(decode(100, of(16_385 - 16 * 1020)), undefined)
  })

  it('allow as many bytes of trailers as a head may have', () => {
    const trailers = 'X: 1234\r\nY: 12\r\n\r\n'
    assert.equal(decode(trailers.length, `0\r\n${trailers}`), 0)
    assert.equal(decode(trailers.length - 1, `0\r\n${trailers}`), undefined)
    assert.equal(decode(trailers.length - 1, ...`0\r\n${trailers}`), undefined)
  })

  it('allow a size of twelve digits', () => {
    assert.equal(readOf('fffffffffffF\r\nab'), 16)
    assert.equal(readOf('000000000002\r\nab'), 16)
    assert.equal(readOf('0000000000002\r\nab'), -1)
  })
})

describe('the limits of a head', () => {
  it('allow a length of 15 digits', () => {
    assert.equal(parseHead(head(`Content-Length: ${'9'.repeat(15)}`), false)?.framing, 999_999_999_999_999)
    assert.equal(parseHead(head(`Content-Length: ${'0'.repeat(14)}7`), false)?.framing, 7)
    assert.equal(parseHead(head(`Content-Length: ${'0'.repeat(15)}7`), false), undefined)
  })

  it('allow the statuses 100 to 999', () => {
    for (const [status, framing] of [
      [100, 0],
      [199, 0],
      [200, 5],
      [203, 5],
      [204, 0],
      [205, 5],
      [303, 5],
      [304, 0],
      [305, 5],
      [999, 5],
    ] as const) {
      const parsed = parseHead(`HTTP/1.1 ${status} x\r\nContent-Length: 5`, false)
      assert.deepEqual([parsed?.status, parsed?.framing], [status, framing])
    }
  })

  it('allow HTTP/1.0 only final statuses without chunks', () => {
    assert.equal(parseHead('HTTP/1.0 199 x', false), undefined)
    assert.equal(parseHead('HTTP/1.0 200 x\r\nTransfer-Encoding: chunked', true), undefined)
    assert.equal(parseHead('HTTP/1.0 200 x\r\nContent-Length: 3', false)?.framing, 3)
  })

  it('reject both framings also where there is no body', () => {
    for (const line of ['HTTP/1.1 204 x', 'HTTP/1.1 304 x']) {
      assert.equal(parseHead(`${line}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked`, true), undefined)
      assert.equal(parseHead(`${line}\r\nContent-Length: x`, true), undefined)
    }
  })
})

describe('a head', () => {
  it('is forwarded without the fields of its connection, and keeps the rest in order', () => {
    const lines = [
      ['Connection', 'close, x'],
      ['Keep-Alive', 'timeout=7'],
      ['Transfer-Encoding', 'chunked'],
      ['Upgrade', 'h2'],
      ['X-Fleet-Draining', '1'],
      ['B', '2'],
      ['A', '1'],
      ['B', '3'],
    ].map((line) => line.join(': '))
    const parsed = parseHead(head(...lines), false)
    assert.equal(parsed?.lines(), 'b: 2\r\na: 1\r\nb: 3\r\n')
    assert.deepEqual([parsed?.draining, parsed?.connection, parsed?.keepAlive], [true, 'close, x', false])
    assert.deepEqual([parsed?.has('a'), parsed?.has('c'), parsed?.has('connection')], [true, false, true])
    assert.deepEqual([parseHead(head(), false)?.draining, parseHead(head(), false)?.connection], [false, ''])
  })

  it('has its Connection fields joined, and its keep-alive time only if it names one', () => {
    const parsed = parseHead(
      head('Content-Length: 0', 'Connection: A', 'Connection: CLOSE', 'Keep-Alive: max=5'),
      false,
    )
    assert.deepEqual([parsed?.connection, parsed?.keepAlive, parsed?.keepAliveMs], ['a,close', false, undefined])
    const near = parseHead(head('Content-Length: 0', 'Connection: closed, not-close', 'Keep-Alive: Timeout=0'), false)
    assert.deepEqual([near?.keepAlive, near?.keepAliveMs], [true, 0])
  })

  it('has white space around values removed, from both parsers', () => {
    assert.deepEqual({ ...parseTrailers('A: \t b c\t \r\nB:\t\r\nC:d') }, { a: 'b c', b: '', c: 'd' })
    assert.deepEqual({ ...headersFrom({ a: ' b\t', c: ['\td', 'e '], f: undefined }) }, { a: 'b', c: ['d', 'e'] })
    const own = headersFrom({ a: ' b' })
    assert.equal(headersFrom(own), own)
  })
})

it('spellings of names and of status lines are remembered up to a number and a length', (t) => {
  const { mock } = t.mock.method(Map.prototype, 'set')
  const kept = (prefix: string): number =>
    mock.calls.filter((call) => String(call.arguments[0]).startsWith(prefix)).length
  for (const long of [`X-Long${'g'.repeat(59)}: a`, `HTTP/1.1 200 ${'g'.repeat(52)}`])
    parseHead(long.startsWith('X') ? head(long) : long, false)
  assert.deepEqual([kept('X-Long'), kept('HTTP/1.1 200 g')], [0, 0])
  for (let i = 0; i < 3_000; i++) parseHead(`HTTP/1.1 200 No ${i}\r\nX-N${i}: a`, false)
  for (const [prefix, most] of [
    ['X-N', 2_000],
    ['HTTP/1.1 200 No ', 100],
  ] as const)
    assert.ok(kept(prefix) > most / 2 && kept(prefix) <= most, `${prefix}: ${kept(prefix)}`)
})
