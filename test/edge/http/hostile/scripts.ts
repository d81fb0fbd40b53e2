import { dribble, endless, type Script, thenEnd, thenReset } from './upstream.ts'

export type Client = 'HTTP/1.1' | 'HTTP/1.1 streamed' | 'HTTP/1.0' | 'HTTP/2'

/** The status of a complete response; `broken`: the client detects an incomplete response; `any`: either. */
export type Expected = number | 'broken' | 'any'

export interface Case {
  readonly script: Script
  readonly expected: Expected | (Partial<Record<Client, Expected>> & { readonly others: Expected })
  /** The body of a complete response from the upstream. */
  readonly text?: string
  /** The trailers that HTTP/1.1 and HTTP/2 clients receive. */
  readonly trailers?: Readonly<Record<string, string>>
}

const ok = 'content-length: 2\r\n\r\nok'
const head = (...lines: string[]): string => ['HTTP/1.1 200 OK', ...lines, ok].join('\r\n')
const status = (line: string): string => `HTTP/1.1 ${line}\r\n${ok}`
const hint = (...lines: string[]): string => `${['HTTP/1.1 103 Early Hints', ...lines].join('\r\n')}\r\n\r\n${head()}`
const chunked = (body: string): string => `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${body}`
const trailers = (...lines: string[]): string =>
  chunked(`2\r\nok\r\n0\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`)
const whole = (script: Script): Case => ({ script, expected: 200, text: 'ok' })
const fails = (script: Script): Case => ({ script, expected: 502 })
const breaks = (script: Script): Case => ({ script, expected: 'broken' })
const either = (script: Script): Case => ({ script, expected: 'any' })
const follows = (script: string, expected: Record<string, string>): Case => ({ ...whole(script), trailers: expected })
const above599 = (line: string): Case => ({
  script: status(line),
  expected: { 'HTTP/2': 502, others: Number(line.slice(0, 3)) },
})

const informational = {
  'an unrequested 100': whole(`HTTP/1.1 100 Continue\r\n\r\n${head()}`),
  'an unrequested 101': fails('HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n'),
  'a 101 without Upgrade': fails(`HTTP/1.1 101 Switching\r\n\r\n${head()}`),
  'a 102': whole(`HTTP/1.1 102 Processing\r\n\r\n${head()}`),
  'a 103 with one link': whole(hint('link: </a.css>; rel=preload; as=style')),
  'a 103 with a list of links': whole(hint('link: </a>; rel=preload, <b,c>; rel="x"; title="a, b", </d>')),
  'a 103 with several Link lines': whole(hint('link: </a>; rel=preload', 'link: </b>; rel=preload')),
  'a 103 with a quoted parameter': whole(hint('link: </a>; title="a b"')),
  'a 103 with an invalid Link': whole(hint('link: x')),
  'a 103 with a Link of many brackets': whole(hint(`link: ${'<'.repeat(8000)}`)),
  'a 103 with a Link of many parameters': whole(hint(`link: <x>${';a=b'.repeat(1900)};"`)),
  'a 103 with a Link of bytes above 127': whole(hint('link: </caf\xe9>; rel=preload')),
  'a 103 with a Link and __proto__': whole(hint('link: </a>; rel=preload', '__proto__: x', 'constructor: y')),
  'a 103 without a Link': whole(hint('x: y')),
  'a 104': whole(`HTTP/1.1 104 Upload Resumption Supported\r\n\r\n${head()}`),
  'a 199': whole(`HTTP/1.1 199 Misc\r\n\r\n${head()}`),
  'as many 102 as are allowed': whole(`${'HTTP/1.1 102 P\r\n\r\n'.repeat(16)}${head()}`),
  'one 102 too many': fails(`${'HTTP/1.1 102 P\r\n\r\n'.repeat(17)}${head()}`),
  'an endless number of 102': fails(endless('', 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(1000))),
  'an endless number of 103': fails(endless('', 'HTTP/1.1 103 E\r\nlink: </a>; rel=preload\r\n\r\n'.repeat(1000))),
  'an endless 103': fails(endless('HTTP/1.1 103 Early Hints\r\nlink: ', '</a>, '.repeat(1000))),
  'a 102 and then silence': { script: 'HTTP/1.1 102 Processing\r\n\r\n', expected: 504 },
} satisfies Record<string, Case>

const statuses = {
  'an ordinary response': whole(head()),
  'a 204 with a length': { script: 'HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\n', expected: 204 },
  'a 204 with a body': { script: 'HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\nok', expected: 204 },
  'a 204 in chunks': { script: 'HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', expected: 204 },
  'a 205 with a body': { script: status('205 Reset'), expected: 205 },
  'a 304 with a length': { script: 'HTTP/1.1 304 Not\r\ncontent-length: 9\r\n\r\n', expected: 304 },
  'a 304 with a body': { script: status('304 Not'), expected: 304 },
  'a 299': { script: status('299 X'), expected: 299, text: 'ok' },
  'a 599': { script: status('599 X'), expected: 599, text: 'ok' },
  'a 600': above599('600 X'),
  'a 999': above599('999 X'),
  'a status of zeros': fails(status('000 X')),
  'a status below 100': fails(status('099 X')),
  'a status of two digits': fails(status('20 X')),
  'a status of four digits': fails(status('2000 X')),
  'a reason of bytes above 127': whole(status('200 caf\xe9')),
  'a reason in UTF-8': whole(status('200 \xe4\xb8\xad')),
  'no reason': whole(status('200 ')),
  'a reason with a NUL': fails(status('200 a\0b')),
  'a status line of 20 KB': whole(status(`200 ${'x'.repeat(20_000)}`)),
  'HTTP/1.0': { script: thenEnd(`HTTP/1.0 200 OK\r\n${ok}`), expected: 200, text: 'ok' },
  'HTTP/2.0': fails(`HTTP/2.0 200 OK\r\n${ok}`),
  'HTTP/0.9': fails(thenEnd('<html>hello</html>')),
  'a TLS alert': fails(thenEnd('\x15\x03\x01\x00\x02\x02\x28')),
  'a frame of HTTP/2': fails(thenEnd('\0\0\0\x04\0\0\0\0\0')),
  'bytes of all values': fails(thenEnd(Array.from({ length: 256 }, (_, i) => String.fromCharCode(i)).join(''))),
} satisfies Record<string, Case>

const fields = {
  'two Content-Type lines': whole(head('content-type: a/b', 'content-type: a/c')),
  'two Date lines': whole(head('date: x', 'date: y')),
  'two ETag lines': whole(head('etag: "x"', 'etag: "y"')),
  'two Location lines': { script: status('302 F\r\nlocation: /a\r\nlocation: /b'), expected: 302, text: 'ok' },
  'two of each field that HTTP/2 allows once': whole(
    head(
      ...'access-control-allow-credentials age content-encoding content-language content-location content-md5 content-range dnt'
        .split(' ')
        .concat(
          'expires from if-match if-range last-modified max-forwards range referer retry-after tk user-agent'.split(
            ' ',
          ),
        )
        .concat('access-control-max-age access-control-request-method authorization host if-modified-since'.split(' '))
        .concat('if-none-match if-unmodified-since upgrade-insecure-requests x-content-type-options'.split(' '))
        .flatMap((name) => [`${name}: a`, `${name}: b`]),
    ),
  ),
  'two Connection lines': whole(head('connection: keep-alive', 'connection: x-foo', 'x-foo: y')),
  'a Connection that names Content-Length': whole(head('connection: content-length, date')),
  'a Connection of commas': whole(head(`connection: ${','.repeat(2000)}`)),
  'each field of one connection': whole(
    head(
      'keep-alive: timeout=5',
      'proxy-connection: x',
      'te: x',
      'upgrade: h2c',
      'http2-settings: AAMAAABk',
      'trailer: y',
    ),
  ),
  'a Keep-Alive beyond all numbers': whole(head(`keep-alive: timeout=${'9'.repeat(400)}`)),
  'fields named like members of objects': whole(
    head('__proto__: a', '__proto__: b', 'constructor: c', 'constructor: d', 'toString: e', 'hasOwnProperty: f'),
  ),
  'many Set-Cookie lines': whole(head(...Array.from({ length: 50 }, (_, i) => `set-cookie: c${i}=x`))),
  'several Link lines': whole(head('link: </a>; rel=x', 'link: </b>; title="a b"')),
  'values of bytes above 127': whole(head('x-obs: caf\xe9 \x80\xff', 'content-type: text/\xe9')),
  'empty values': whole(head('x:', 'content-type:', 'etag: ')),
  'values within spaces and tabs': whole(head('x-a: \t a \t ', 'date:\t \t')),
  'a name of odd characters': whole(head("!#$%&'*+.^_`|~-9: x")),
  'a field without a colon': fails(head('nonsense')),
  'a field without a name': fails(head(': x')),
  'a pseudo-header': fails(head(':status: 200')),
  'a space before a colon': fails(head('x : y')),
  'a folded line': fails(head('x: a\r\n b')),
  'a NUL in a value': fails(head('x: a\0b')),
  'a bare CR in a value': fails(head('x: a\rb')),
  'a bare LF after a value': fails(head('x: a\ny: b')),
  '100 fields': whole(head(...Array.from({ length: 100 }, (_, i) => `x-${i}: v`))),
  // As many as fit within the clients' own limits.
  '8,000 fields': either(head(...Array.from({ length: 8000 }, () => 'x:'))),
  'a field of 30 KB': either(head(`x: ${'y'.repeat(30_000)}`)),
  'a name of 30 KB': either(head(`${'y'.repeat(30_000)}: x`)),
  'a field of 40 KB': fails(head(`x: ${'y'.repeat(40_000)}`)),
  'endless fields': fails(endless('HTTP/1.1 200 OK\r\n', 'x: y\r\n'.repeat(1000))),
  'an endless field': fails(endless('HTTP/1.1 200 OK\r\nx: ', 'y'.repeat(6000))),
} satisfies Record<string, Case>

const framing = {
  'two equal lengths': fails(`HTTP/1.1 200 OK\r\ncontent-length: 2\r\n${ok}`),
  'two different lengths': fails(`HTTP/1.1 200 OK\r\ncontent-length: 3\r\n${ok}`),
  'a list of lengths': fails('HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok'),
  'a negative length': fails('HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok'),
  'a length with a sign': fails('HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok'),
  'a hexadecimal length': fails('HTTP/1.1 200 OK\r\ncontent-length: 0x2\r\n\r\nok'),
  'a length beyond all numbers': fails(`HTTP/1.1 200 OK\r\ncontent-length: ${'9'.repeat(40)}\r\n\r\nok`),
  'a length and chunks': fails('HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n'),
  'chunks twice': fails(`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n${chunked('0\r\n\r\n').slice(17)}`),
  'a coding below the chunks': fails('HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n'),
  'another coding': fails(thenEnd('HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok')),
  'a body that is shorter than its length': breaks(thenEnd('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf')),
  'a body that is reset': breaks(thenReset('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf')),
  'a body that stops': breaks('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf'),
  'a body that is longer than its length': whole(`${head()}and more`),
  'a body that ends with the connection': whole(thenEnd('HTTP/1.1 200 OK\r\n\r\nok')),
  'a body that ends with a reset': breaks(thenReset('HTTP/1.1 200 OK\r\n\r\nhalf')),
  'two responses': whole(head() + head()),
  'chunks without a last one': breaks(thenEnd(chunked('2\r\nok\r\n'))),
  'chunks that stop': breaks(chunked('2\r\nok\r\n')),
  'chunks that are reset': breaks(thenReset(chunked('2\r\nok\r\n'))),
  'a chunk that is cut': breaks(thenEnd(chunked('9\r\nok'))),
  'a chunk without its line end': breaks(chunked('2\r\nok0\r\n\r\n')),
  'a chunk with a length that is none': breaks(chunked('2\r\nok\r\nxyz\r\n')),
  'a chunk with a negative length': breaks(chunked('2\r\nok\r\n-1\r\n')),
  'a chunk with a length beyond all numbers': breaks(chunked(`2\r\nok\r\n${'f'.repeat(20)}\r\n`)),
  'an endless chunk length': breaks(endless(chunked('2\r\nok\r\n'), '0'.repeat(1000))),
  'an endless extension': breaks(endless(chunked('2\r\nok\r\n'), `1;${'x'.repeat(6000)}`)),
  'endless small extensions': breaks(endless(chunked(''), `1;${'x'.repeat(900)}\r\na\r\n`)),
  'endless trailers': breaks(endless(chunked('2\r\nok\r\n0\r\n'), 'x: y\r\n'.repeat(1000))),
  'a trailer that is none': breaks(chunked('2\r\nok\r\n0\r\nnonsense\r\n\r\n')),
  'a pseudo-header as a trailer': breaks(chunked('2\r\nok\r\n0\r\n:status: 200\r\n\r\n')),
  'writes of no bytes': whole((socket) => {
    for (const piece of ['', head(), '', '']) socket.write(piece)
  }),
  'bytes one by one': whole(dribble(trailers(), 1)),
} satisfies Record<string, Case>

const late = {
  'several trailers': follows(trailers('x-one: 1', 'x-two: 2', 'X-Three: 3'), {
    'x-one': '1',
    'x-two': '2',
    'x-three': '3',
  }),
  'trailers of gRPC': follows(trailers('grpc-status: 0', 'grpc-message: fine'), {
    'grpc-status': '0',
    'grpc-message': 'fine',
  }),
  'a trailer that is repeated': follows(trailers('x-a: 1', 'x-a: 2'), { 'x-a': '1, 2' }),
  'an ETag and a digest as trailers': follows(trailers('etag: "x"', 'content-digest: d'), {
    etag: '"x"',
    'content-digest': 'd',
  }),
  'two ETag trailers': follows(trailers('etag: "x"', 'etag: "y"'), { etag: '"x"' }),
  'trailers that frame': follows(trailers('content-length: 5', 'transfer-encoding: chunked', 'x: 1'), { x: '1' }),
  'a trailer that announces trailers': follows(trailers('trailer: x', 'x: 1'), { x: '1' }),
  'trailers that route': follows(trailers('host: evil', 'x-forwarded-for: 1', 'x: 1'), { x: '1' }),
  'trailers that authenticate': follows(
    trailers('set-cookie: a=b', 'www-authenticate: x', 'authorization: y', 'x: 1'),
    { x: '1' },
  ),
  'trailers that control': follows(trailers('location: /', 'cache-control: public', 'date: x', 'x: 1'), { x: '1' }),
  'trailers about the content': follows(trailers('content-type: a/b', 'content-encoding: gzip', 'x: 1'), { x: '1' }),
  'trailers of one connection': follows(
    trailers('connection: close', 'keep-alive: x', 'te: x', 'upgrade: h2c', 'http2-settings: x', 'proxy-connection: x'),
    {},
  ),
  'trailers named like members of objects': follows(trailers('constructor: c', 'toString: t', 'x: 1'), {
    constructor: 'c',
    tostring: 't',
    x: '1',
  }),
  'a trailer named __proto__': whole(trailers('__proto__: a', '__proto__: b')),
  'trailers of bytes above 127': follows(trailers('x: caf\xe9'), { x: 'caf\xe9' }),
  'trailers that Connection names': follows(
    trailers('x-mine: 1', 'x: 1').replace('\r\n', '\r\nconnection: x-mine\r\n'),
    { x: '1' },
  ),
} satisfies Record<string, Case>

const silence = {
  nothing: { script: () => {}, expected: 504 },
  'half a head': { script: 'HTTP/1.1 200 OK\r\nx: ', expected: 504 },
  'a head that never ends, byte by byte': {
    script: dribble(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(500)}`, 20),
    expected: 504,
  },
  'the end of the connection': fails((socket) => socket.end()),
  'a reset': fails(thenReset('')),
  'half a head and a reset': fails(thenReset('HTTP/1.1 200 OK\r\nx: ')),
  'half a head and the end': fails(thenEnd('HTTP/1.1 200 OK\r\nx: ')),
} satisfies Record<string, Case>

export const cases: ReadonlyMap<string, Case> = new Map<string, Case>(
  Object.entries({ ...informational, ...statuses, ...fields, ...framing, ...late, ...silence }),
)
