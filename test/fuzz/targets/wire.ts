import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import { type Exchange, startPair } from '../engine/responses.ts'
import type { Generator, Target } from '../engine/target.ts'
import { differences } from '../wire-differences.ts'

/**
 * Compares the built-in proxy's response parser with Node's. The first byte chooses the request's method, the second
 * the split of the response into pieces; the rest is the response. A difference must be listed in
 * `wire-differences.ts`.
 */
let pair: Awaited<ReturnType<typeof startPair>>

const seeds = [
  'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n3;a="b c"\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n',
  'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload, </b>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
  'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nuntil the end',
  'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 12\r\n\r\n',
  'HTTP/1.1 204\r\nConnection: close\r\nKeep-Alive: timeout=5\r\n\r\n',
  'HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Empty:\r\nX-Space: \t a b\t \r\n\r\nbody',
  'HTTP/1.1 200 \xe9t\xe9\r\n__proto__: a\r\nconstructor: b\r\nContent-Length: 1\r\n\r\nx',
  'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n__proto__: x\r\nContent-Length: 3\r\n\r\n',
]
const dictionary = [
  ...[
    '\r\n',
    '\n',
    '\r',
    '\r\n\r\n',
    ' ',
    '\t',
    '\0',
    ':',
    ',',
    ';',
    '0\r\n\r\n',
    'ffffffff\r\n',
    '0x5\r\n',
    '+5',
    '-1',
  ],
  ...['Content-Length: 5\r\n', 'Content-Length: 5, 5\r\n', 'Content-Length: 18446744073709551616\r\n'],
  ...['Transfer-Encoding: chunked\r\n', 'Transfer-Encoding: gzip, chunked\r\n', 'Transfer-Encoding: identity\r\n'],
  ...[
    'Connection: close\r\n',
    'Connection: keep-alive\r\n',
    'Trailer: x\r\n',
    'HTTP/1.1 100 Continue\r\n\r\n',
    ' folded\r\n',
  ],
  ...['HTTP/1.1 ', 'HTTP/1.0 ', 'HTTP/2.0 ', 'HTTP/0.9 ', '200', '204', '304', '599', '999', '\x80', '\xff'],
]

/** A response of mostly valid parts. */
function generate(random: Generator): Buffer {
  const line = (): string =>
    random.pick([
      'Content-Length: 5\r\n',
      'Transfer-Encoding: chunked\r\n',
      'Connection: close\r\n',
      'X-Test: value\r\n',
      'Set-Cookie: a=b\r\n',
      ...dictionary,
    ])
  const lines = Array.from({ length: random.below(5) }, line).join('')
  const status = random.pick([
    '200 OK',
    '204 No Content',
    '304 Not Modified',
    '500 Error',
    '100 Continue',
    '206 ',
    '600 x',
  ])
  const body = random.pick([
    'hello',
    '5\r\nhello\r\n0\r\n\r\n',
    '',
    '1\r\na\r\n0\r\nA: b\r\nA: c\r\n\r\n',
    'hello, and more',
  ])
  const method = random.below(4)
  return Buffer.from(
    `${String.fromCharCode(method, random.below(256))}HTTP/1.1 ${status}\r\n${lines}\r\n${body}`,
    'latin1',
  )
}

export default {
  seeds: seeds.flatMap((seed) => [`\0\0${seed}`, `\x01\x40${seed}`]),
  dictionary,
  generate,
  async prepare() {
    pair = await startPair()
    return () => pair.close()
  },
  async run(input) {
    const method = input[0] === 1 ? 'HEAD' : 'GET'
    const bytes = input.subarray(2)
    const cut = Math.floor((bytes.length * (input[1] ?? 0)) / 256)
    const pieces = [bytes.subarray(0, cut), bytes.subarray(cut)].filter((piece) => piece.length > 0)
    const [own, node] = await pair.send(method, pieces)
    const isEqual = same(own, node)
    const known = isEqual
      ? undefined
      : differences.find(({ applies }) => applies({ text: bytes.toString('latin1'), own, node }))
    if (!isEqual && !known) assert.fail(`own ${JSON.stringify(own)}\nNode ${JSON.stringify(node)}`)
    return `${own.outcome} ${node.outcome} ${known?.name} ${own.status} ${own.body.length > 0} ${own.trailers.length}`
  },
} satisfies Target

/** The forwarded part of a truncated body depends on the pieces. */
function same(own: Exchange, node: Exchange): boolean {
  if (own.outcome === 'cut' && node.outcome === 'cut')
    return isDeepStrictEqual({ ...own, body: '' }, { ...node, body: '' }) && isPrefix(own.body, node.body)
  return isDeepStrictEqual(own, node)
}

const isPrefix = (one: string, other: string): boolean => one.startsWith(other) || other.startsWith(one)
