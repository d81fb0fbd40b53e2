import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ChunkedDecoder } from '../../../../src/edge/http/wire/chunks.ts'

/** The decoded body and the number of bytes used; undefined when the coding is invalid or incomplete. */
function decode(...pieces: string[]): { text: string; used: number; trailers: object } | undefined {
  let text = ''
  let used = 0
  const chunks = new ChunkedDecoder(100, (data) => {
    text += data.toString('latin1')
  })
  for (const piece of pieces) {
    const more = chunks.read(Buffer.from(piece, 'latin1'))
    if (more < 0) return undefined
    used += more
  }
  return chunks.trailers && { text, used, trailers: { ...chunks.trailers } }
}

const valid = '5\r\nhello\r\n00A;name="x y"\r\n, my world\r\n1\r\n!\r\n0\r\nX-Sum: 42\r\nX-Other:y\r\n\r\n'

describe('the chunked coding', () => {
  it('is decoded from buffers of any size', () => {
    const whole = { text: 'hello, my world!', used: valid.length, trailers: { 'x-sum': '42', 'x-other': 'y' } }
    assert.deepEqual(decode(valid), whole)
    assert.deepEqual(decode(...valid), whole)
    for (let at = 1; at < valid.length; at++) assert.deepEqual(decode(valid.slice(0, at), valid.slice(at)), whole)
    assert.deepEqual(decode('0\r\n\r\n'), { text: '', used: 5, trailers: {} })
  })

  it('limits the extensions of all chunks together', () => {
    const extended = `1;${'x'.repeat(1000)}\r\na\r\n`
    assert.equal(decode(`${extended.repeat(16)}0\r\n\r\n`)?.text.length, 16)
    assert.equal(decode(`${extended.repeat(17)}0\r\n\r\n`), undefined)
  })

  it('keeps trailers named like object members', () => {
    const { trailers } = decode('0\r\n__proto__: a\r\nconstructor: b\r\nconstructor: c\r\n\r\n') ?? {}
    assert.deepEqual(Object.entries(trailers ?? {}), [
      ['__proto__', 'a'],
      ['constructor', ['b', 'c']],
    ])
  })

  it('does not consume bytes after its end', () => {
    assert.equal(decode('1\r\nx\r\n0\r\n\r\nHTTP/1.1 200 OK')?.used, 11)
  })

  it('is not complete before its end', () => {
    for (let at = 0; at < valid.length; at++) assert.equal(decode(valid.slice(0, at)), undefined)
  })

  for (const bad of [
    'xyz\r\n',
    '\r\n',
    ' 5\r\nhello\r\n',
    '5 \r\nhello\r\n',
    '0x5\r\nhello\r\n',
    '-5\r\nhello\r\n',
    '+5\r\nhello\r\n',
    '5\nhello\r\n',
    '5\rhello\r\n',
    '5;\0\r\nhello\r\n',
    '5\r\nhello!\r\n',
    '5\r\nhello0\r\n\r\n',
    '5\r\nhello\n',
    '5\r\nhello\r\n\r\n',
    'fffffffffffffffff\r\n',
    '0\r\nnothing\r\n\r\n',
    '0\r\nX : y\r\n\r\n',
    '0\r\nX: y\nZ: z\r\n\r\n',
    `0\r\nX: ${'y'.repeat(200)}\r\n\r\n`,
    `5;${'x'.repeat(2000)}`,
  ]) {
    it(`is rejected: ${JSON.stringify(bad).slice(0, 40)}`, () => {
      assert.equal(decode(`${bad}0\r\n\r\n`), undefined)
      assert.equal(decode(...`${bad}0\r\n\r\n`), undefined)
    })
  }
})
