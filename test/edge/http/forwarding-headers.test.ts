import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { connect } from 'node:http2'
import { describe, it } from 'node:test'
import type { ProxyOptions } from '../../../src/edge/http/server.ts'
import { atEnd } from '../at-end.ts'
import { get, pair } from '../front.ts'

const file = (name: string): string => readFileSync(new URL(`../fixtures/localhost.${name}`, import.meta.url), 'utf8')
const tls = { key: file('key'), cert: file('crt') }

type Fields = Record<string, string>
interface Client {
  port: string
  /** The headers that the upstream receives for a request with one header field. */
  seen(name: string, value: string): Promise<Fields>
}

const clients: Record<string, (options: Partial<ProxyOptions>) => Promise<Client>> = {
  'HTTP/1.1': async (options) => {
    const { url, port } = await pair(options)
    const seen = async (name: string, value: string): Promise<Fields> =>
      JSON.parse((await get(url, { headers: { host: 'shop.example', [name]: value } })).text).headers
    return { port: String(port), seen }
  },
  'HTTP/2': async (options) => {
    const { url, port } = await pair({ ...options, tls })
    const session = connect(url, { ca: tls.cert })
    atEnd(() => session.destroy())
    const seen = async (name: string, value: string): Promise<Fields> => {
      const stream = session.request({ ':path': '/', ':authority': 'shop.example', [name]: value })
      return JSON.parse((await stream.toArray()).join('')).headers
    }
    return { port: String(port), seen }
  },
}

for (const [protocol, start] of Object.entries(clients)) {
  const scheme = protocol === 'HTTP/2' ? 'https' : 'http'
  const element = `for=127.0.0.1;host=shop.example;proto=${scheme}`

  describe(`forwarding headers over ${protocol}`, async () => {
    const stranger = await start({})
    const trusted = await start({ trustProxy: ['127.0.0.1'] })

    for (const [name, value, replaced, kept] of [
      ['forwarded', 'for=6.6.6.6', element, `for=6.6.6.6, ${element}`],
      ['x-forwarded-for', '6.6.6.6', '127.0.0.1', '6.6.6.6, 127.0.0.1'],
      ['x-forwarded-host', 'evil.example', 'shop.example', 'evil.example'],
      ['x-forwarded-port', '1', undefined, '1'],
      ['x-forwarded-proto', 'ftp', scheme, 'ftp'],
    ] as const) {
      it(`replace the ${name} of a client and keep that of a trusted proxy`, async () => {
        assert.equal((await stranger.seen(name, value))[name], replaced ?? stranger.port)
        assert.equal((await trusted.seen(name, value))[name], kept)
      })
    }

    it('replace the X-Request-Id of a client and keep that of a trusted proxy', async () => {
      assert.match((await stranger.seen('x-request-id', 'forged'))['x-request-id'] ?? '', /^[\w-]{12}-[\da-z]+$/)
      assert.equal((await trusted.seen('x-request-id', 'abc'))['x-request-id'], 'abc')
    })

    it('never include X-Real-IP, which names one address without its proxies', async () => {
      for (const { seen } of [stranger, trusted]) {
        assert.equal((await seen('x-real-ip', '6.6.6.6'))['x-real-ip'], undefined)
      }
    })

    for (const name of [
      'x-forwarded-prefix',
      'x-original-url',
      'x-rewrite-url',
      'x-host',
      'x-http-host-override',
    ] as const) {
      it(`include ${name} from a trusted proxy only`, async () => {
        assert.equal((await stranger.seen(name, '/admin'))[name], undefined)
        assert.equal((await trusted.seen(name, '/admin'))[name], '/admin')
      })
    }

    it('do not concern fields with similar names', async () => {
      for (const name of ['x-hostname', 'x-forwarded', 'x-originals', 'x-real-ips']) {
        assert.equal((await stranger.seen(name, 'a'))[name], 'a', name)
      }
    })

    it('never include what the proxy and its targets tell each other', async () => {
      for (const name of ['x-fleet-draining', 'x-fleet-load', 'x-fleet-retry', 'trailer']) {
        for (const { seen } of [stranger, trusted]) assert.equal((await seen(name, '1'))[name], undefined, name)
      }
    })
  })
}
