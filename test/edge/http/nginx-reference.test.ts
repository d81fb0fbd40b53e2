import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { freePort } from '../../helpers/free-port.ts'
import { startNginx } from '../../helpers/nginx.ts'
import { front } from '../front.ts'
import { raw } from '../raw.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'
import { requests, responses } from './odd-requests.ts'

/** Differences between the proxy and nginx; docs/balancer.md has the reason for each. Any other difference fails the test. */
const differences: Record<string, readonly string[]> = {
  'Header names': ['an underscore', 'a dot', 'an odd name', 'a name with a quote', 'a header without a colon'],
  'Too large': [`path ${JSON.stringify(`/${'x'.repeat(39)}`)} 20001`, 'a header of 40 KiB'],
  'Named by Connection': ['Connection: a list'],
  Expect: ['Expect: 100-continue', 'Expect: wonders'],
  Host: ['an empty Host', 'a Host with an odd port', 'a Host with a user'],
  'HTTP/1.0 without a Host': ['HTTP/1.0 with a body', 'HTTP/1.0 without anything'],
  'Absolute targets': ['an absolute target', 'an absolute target without a path', 'a target of another scheme'],
  'Dot segments': ['path "/a/./b" 6', 'path "/a/../b" 7', 'path "/a/.." 5'],
  Fragments: ['path "/a#frag" 7'],
  Trailers: ['trailers', 'a trailer that frames'],
  'Transfer codings': [
    'TE: xchunked',
    'TE: identity',
    'TE: gzip, chunked',
    'TE: chunked, identity',
    'TE with a tab and junk',
    'TE in quotes',
  ],
  'Line ends': ['a bare LF between headers', 'a chunk size after a bare LF', 'a space after the request line'],
  Methods: ['CONNECT'],
  Versions: ['HTTP/1.2', 'HTTP/0.9', 'HTTP/2 without TLS'],
  'Broken responses': [
    'response: length and chunks',
    'response: a bad header',
    'response: an upgrade that was not requested',
    'response: not HTTP',
    'response: a bad status',
  ],
}

const compared =
  /^(?:x[-_.].*|host|cookie|trailer|upgrade|range|if-none-match|accept-encoding|expect|via|max-forwards|!.*)$/
/** The nginx of this test is not configured to send these as the proxy does. */
const apart = /^x-(?:forwarded-(?:host|port|proto)|request-id)$/

/** What the client and the upstream receive for these bytes. */
async function sendRequest(url: string, upstream: Upstream, bytes: string): Promise<string> {
  const seen: unknown[] = []
  upstream.handler = async (request, response) => {
    const pieces = await request.toArray().catch(() => undefined)
    if (!pieces) return
    const body = Buffer.concat(pieces).toString('latin1')
    const headers = Object.entries(request.headers).filter(([name]) => compared.test(name) && !apart.test(name))
    seen.push([request.method, request.url, body.slice(0, 99), Object.fromEntries(headers.toSorted())])
    response.end('ok')
  }
  return JSON.stringify([statuses(await raw(url, bytes)), ...seen])
}

const statuses = (text: string): string[] => text.match(/HTTP\/1\.1 \d{3}/g) ?? [text === '' ? 'closed' : text]

/** What the client receives when the upstream sends these bytes. */
async function sendResponse(url: string, upstream: Upstream, bytes: string): Promise<string> {
  upstream.handler = (request) => request.socket.end(bytes, 'latin1')
  const text = await raw(url, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  return JSON.stringify([statuses(text), text.slice(text.indexOf('\r\n\r\n') + 4).includes('hello')])
}

const lanes = 4

describe('the proxy behaves like nginx, except for the differences in docs/balancer.md', async () => {
  const upstreams = await startUpstreams(lanes)
  const ports = await Promise.all(upstreams.map(() => freePort()))
  const servers = upstreams.map(
    ({ port }, i) => `upstream u${i} { server 127.0.0.1:${port} max_fails=0; keepalive 4; }
      server { listen 127.0.0.1:${ports[i]}; location / { proxy_pass http://u${i}; proxy_http_version 1.1;
        proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; } }`,
  )
  await startNginx({
    port: ports[0] as number,
    config: `error_log stderr crit; pid nginx.pid; worker_processes 1; events { worker_connections 128; }
      http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
        client_header_timeout 1s; client_body_timeout 1s; lingering_timeout 1s; keepalive_timeout 1s; ${servers.join('\n')} }`,
  })
  const proxies = await Promise.all(
    upstreams.map((upstream) =>
      front([upstream], { maxBodyBytes: 1 << 20, block: [], keepAliveMs: 1000, outliers: { consecutive: 0 } }),
    ),
  )
  const cases = [
    ...Object.entries(requests).map(([name, bytes]) => [name, bytes, sendRequest] as const),
    ...Object.entries(responses).map(([name, bytes]) => [`response: ${name}`, bytes, sendResponse] as const),
  ]

  it(`for ${cases.length} requests and responses, from ordinary to broken`, async () => {
    const differing = new Map<string, string>()
    const queue = cases.values()
    const lane = async (i: number): Promise<void> => {
      const upstream = upstreams[i] as Upstream
      for (const [name, bytes, how] of queue) {
        const fromProxy = await how(proxies[i]?.url ?? '', upstream, bytes)
        const fromNginx = await how(`http://127.0.0.1:${ports[i]}`, upstream, bytes)
        if (fromProxy !== fromNginx)
          differing.set(name, `${name}\n  proxy ${fromProxy.slice(0, 300)}\n  nginx ${fromNginx.slice(0, 300)}`)
      }
    }
    await Promise.all(upstreams.map((_, i) => lane(i)))
    const listed = Object.values(differences).flat()
    const unlisted = [...differing].filter(([name]) => !listed.includes(name)).map(([, text]) => text)
    assert.deepEqual(unlisted, [], 'unlisted differences')
    assert.deepEqual(
      listed.filter((name) => !differing.has(name)),
      [],
      'listed, but no longer a difference',
    )
  })

  it('has a reason in docs/balancer.md for each difference', () => {
    const page = readFileSync(new URL('../../../docs/balancer.md', import.meta.url), 'utf8')
    for (const group of Object.keys(differences)) assert.ok(page.includes(`| ${group} |`), group)
  })
})
