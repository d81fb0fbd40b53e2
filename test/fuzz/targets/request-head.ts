import assert from 'node:assert/strict'
import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { FleetError } from '../../../src/base/errors.ts'
import { Admission } from '../../../src/edge/http/admission.ts'
import { hopByHop } from '../../../src/edge/http/headers.ts'
import { resolveProxyOptions } from '../../../src/edge/http/options.ts'
import { Origins } from '../../../src/edge/http/origins.ts'
import { Pools } from '../../../src/edge/http/pools.ts'
import { parse } from '../engine/requests.ts'
import type { Target } from '../engine/target.ts'

const trusted = new Origins(['loopback'], 'trustProxy')
const untrusted = new Origins([], 'trustProxy')

/**
 * A request that Node's parser accepts and the proxy admits goes upstream as one request with the same method, target
 * and headers. No part of it can be parsed as a second request, or as a header that the client did not send.
 */
export default {
  seeds: [
    'GET /a?b=c HTTP/1.1\r\nHost: a.example\r\nX-A: b\r\n\r\n',
    'POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 1\r\nConnection: x-a, close\r\nX-A: b\r\n\r\nx',
    'GET http://other.example/%2e%2e/x HTTP/1.1\r\nHost: a\r\nForwarded: for=1\r\nX-Forwarded-For: 1.1.1.1, x\r\n\r\n',
    'OPTIONS * HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'GET // HTTP/1.1\r\nHost: a"b;c=\xe9\r\n__proto__: x\r\nCookie: a\r\nCookie: b\r\n\r\n',
    'GET / HTTP/1.0\r\n\r\n',
  ],
  dictionary: [
    ...[
      '\r\n',
      '\n',
      ' ',
      '\t',
      '\0',
      '\xa0',
      'Host: b\r\n',
      'Connection: host\r\n',
      'Connection: cookie, x-forwarded-for\r\n',
    ],
    ...['X-Forwarded-Host: a\r\n', 'X-Forwarded-Proto: https\r\n', 'X-Request-Id: 1\r\n', 'Forwarded: for="\r\n'],
    ...['http://u:p@h/', 'https://', 'ftp://', '%0d%0a', '%00', '/..', ';', '#', '\\'],
  ],
  run(input) {
    const outcomes: string[] = []
    for (const request of parse(input)) {
      for (const origins of [trusted, untrusted]) outcomes.push(admit(request, origins))
    }
    return outcomes.join(' ')
  },
} satisfies Target

const { proxy: limits, pools, router } = resolveProxyOptions({ targets: [] })
const onePool = new Pools(pools, router)

function admit(request: IncomingMessage, origins: Origins): string {
  const socket = Object.assign(new Socket(), {})
  Object.defineProperties(socket, { remoteAddress: { value: '127.0.0.1' }, localPort: { value: 80 } })
  const call = new Admission(origins, { ...limits, block: ['/blocked'] }, onePool).admit(request, origins.of(socket))
  if (call instanceof FleetError) {
    assert.ok(call.statusCode < 500)
    return call.code
  }
  const { method, path, headers } = call.options
  const lines = [...(headers as Iterable<string | [string, string]>)].flat()
  let text = `${method} ${path} HTTP/1.1\r\n`
  for (let i = 0; i < lines.length; i += 2) text += `${lines[i]}: ${lines[i + 1]}\r\n`
  // Framing belongs to the connection: only the head is compared.
  const [again, ...more] = parse(Buffer.from(`${text}connection: close\r\n\r\n`, 'latin1'))
  assert.ok(again, `the upstream cannot read it: ${JSON.stringify(text)}`)
  assert.equal(more.length, 0, `the upstream reads ${more.length} requests more: ${JSON.stringify(text)}`)
  assert.equal(again.method, request.method)
  assert.equal(again.url, path)
  assert.equal(again.rawHeaders.length, lines.length + 2, JSON.stringify(text))
  for (const name of Object.keys(again.headers)) {
    assert.ok(name === 'connection' || !hopByHop.has(name), name)
    if (origins === untrusted && name === 'x-forwarded-for') assert.equal(again.headers[name], '127.0.0.1')
  }
  return `admitted ${again.rawHeaders.length}`
}
