import assert from 'node:assert/strict'
import { parseHead } from '../../../src/edge/http/wire/response-head.ts'
import type { Target } from '../engine/target.ts'

/** The head of a forwarded response: every later parser must read the same head. */
export default {
  seeds: [
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b',
    'HTTP/1.1 503\r\nConnection: close, x-a\r\nX-A: b\r\nKeep-Alive: timeout=5, max=10',
    'HTTP/1.0 302 Found\r\nLocation: /\xe9\r\nSet-Cookie: a\r\nSet-Cookie: b',
    'HTTP/1.1 200 OK\r\n__proto__: 1\r\nconstructor: 2\r\ntoString: 3\r\n__proto__: 4',
  ],
  dictionary: [
    '\r\n',
    '\n',
    '\r',
    '\0',
    ': ',
    ':',
    ' ',
    '\t',
    'Content-Length: 1\r\n',
    'Transfer-Encoding: chunked\r\n',
  ],
  run(input) {
    const head = parseHead(input.toString('latin1'), false)
    if (!head) return 'rejected'
    assert.ok(head.status >= 100 && head.status <= 999)
    assert.ok(head.keepAliveMs === undefined || head.keepAliveMs >= 0)
    const lines = head.lines()
    assert.equal(lines === '' || lines.endsWith('\r\n'), true)
    const again = parseHead(`HTTP/1.1 ${head.status} ${head.message}\r\n${lines}`.slice(0, -2), false)
    assert.ok(again, `not accepted again: ${JSON.stringify(lines)}`)
    assert.equal(again.lines(), lines)
    for (const name of Object.keys(head.headers)) assert.ok(head.has(name), name)
    return `${head.status} ${typeof head.framing} ${head.keepAlive} ${lines.length > 40}`
  },
} satisfies Target
