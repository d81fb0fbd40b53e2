import assert from 'node:assert/strict'
import { ChunkedDecoder } from '../../../src/edge/http/wire/chunks.ts'
import type { Target } from '../engine/target.ts'

interface Read {
  outcome: 'complete' | 'incomplete' | 'rejected'
  body: string
  used: number
  trailers: object | undefined
}

function read(pieces: readonly Buffer[]): Read {
  let body = ''
  const chunks = new ChunkedDecoder(1024, (data) => {
    body += data.toString('latin1')
  })
  let used = 0
  for (const piece of pieces) {
    if (chunks.trailers) break
    const count = chunks.read(piece)
    if (count < 0) return { outcome: 'rejected', body: '', used: 0, trailers: undefined }
    used += count
  }
  return { outcome: chunks.trailers ? 'complete' : 'incomplete', body, used, trailers: chunks.trailers }
}

/** The chunked coding parses the same from pieces of any size. The first byte is the size of a piece. */
export default {
  seeds: [
    '\x035\r\nhello\r\n0\r\n\r\n',
    '\x011\r\nx\r\n00A;name="x y"\r\n0123456789\r\n0\r\nX-Sum: 42\r\nx-sum: 43\r\n\r\nHTTP/1.1 200 OK',
    '\x020\r\n__proto__: x\r\nconstructor: y\r\n\r\n',
    '\x07ffffffffffff\r\nx',
  ],
  dictionary: ['\r\n', '\n', '0\r\n', ';', '"', 'ffffffffffff', '\r\n\r\n', 'a:b\r\n', '__proto__: x\r\n'],
  run(input) {
    const size = 1 + ((input[0] ?? 0) % 16)
    const bytes = input.subarray(1)
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
      bytes.subarray(i * size, (i + 1) * size),
    )
    const whole = read([bytes])
    assert.deepEqual(read(pieces), whole)
    assert.ok(whole.used <= bytes.length)
    return `${whole.outcome} ${whole.body.length} ${Object.keys(whole.trailers ?? {}).length}`
  },
} satisfies Target
