import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { after, describe, it } from 'node:test'
import Fastify from 'fastify'
import { authentication, rateLimit } from '../../src/state/rate-limit/index.ts'
import { releases, startFront as startShippedHaproxy } from '../haproxy/haproxy.ts'
import { until } from '../helpers/until.ts'
import { startFront as startShippedNginx } from '../nginx/front.ts'
import { atEnd } from './at-end.ts'
import { front as startProxy } from './front.ts'
import { raw, statusOf } from './raw.ts'
import { Readers, type RouterOptions, spellings } from './spellings.ts'
import { startUpstreams, type Upstream } from './upstream.ts'

const operators = ['/metrics', '/fleet', '/health/detailed', '/api/v1/load-balancer']
const login = '/api/v1/auth/login'

interface Started {
  readonly url: string
  /** Whether the front itself limits logins. */
  readonly limited: boolean
  /** Whether it caches `/static/`. */
  readonly caches: boolean
}

/** Every front that this project ships, in front of one instance. */
const fronts: Record<string, (upstream: Upstream) => Promise<Started>> = {
  'the built-in proxy': async (upstream) => ({
    url: (await startProxy([upstream])).url,
    limited: false,
    caches: false,
  }),
  'nginx, as shipped': async ({ port }) => {
    const { url } = await startShippedNginx({ FLEET_TARGETS: `127.0.0.1:${port}`, FLEET_AUTH_RATE: '1r/m' })
    return { url, limited: true, caches: true }
  },
  ...Object.fromEntries(
    releases.map((release) => [
      `HAProxy ${release.version}, as shipped`,
      async ({ port }: Upstream): Promise<Started> => {
        const servers = [1, 2, 3].map((n) => [`LB_SERVER_${n}`, `127.0.0.1:${port}`])
        const rates = { LB_RATE: '100000', LB_RATE_TARPIT: '200000', LB_RATE_AUTH: '5' }
        const { url } = await startShippedHaproxy(release, { ...Object.fromEntries(servers), ...rates })
        return { url, limited: true, caches: false }
      },
    ]),
  ),
}

const request = (target: string, ...lines: string[]): string =>
  [`GET ${target} HTTP/1.1`, ...lines, 'Connection: close', '', ''].join('\r\n')

for (const [name, start] of Object.entries(fronts)) {
  describe(`path rules of ${name}`, async () => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    const seen: { url: string; headers: IncomingHttpHeaders }[] = []
    upstream.handler = (incoming, response) => {
      seen.push({ url: incoming.url ?? '', headers: incoming.headers })
      response.setHeader('content-type', 'text/css')
      response.end(`${incoming.headers.host} ${incoming.headers['x-forwarded-host']}`)
    }
    const { url, limited, caches } = await start(upstream)
    await until(async () => statusOf(await raw(url, request('/', 'Host: x'))) === 200, { what: 'the front' })

    /** The request that the instance receives; undefined when the front responds to it. */
    const send = async (
      bytes: string,
    ): Promise<{ status: number; text: string; url?: string; headers?: IncomingHttpHeaders }> => {
      seen.length = 0
      const text = await raw(url, bytes)
      return { status: statusOf(text), text, ...seen[0] }
    }

    it('blocks every spelling of an operators’ path that an instance would route there', async () => {
      const readers = new Readers(operators)
      await readers.listen()
      after(() => readers.close())
      let direct = 0
      for (const target of operators.flatMap((path) => spellings(path === operators[3] ? `${path}/config` : path))) {
        if (await readers.reaches(target)) direct++
        const { url: passed } = await send(request(target, 'Host: x'))
        if (passed !== undefined) assert.ok(!(await readers.reaches(passed)), `${target} is passed on as ${passed}`)
      }
      // Otherwise the table would prove nothing.
      assert.ok(direct > 150, `${direct} spellings reach an operators’ path without a front`)
      for (const path of [
        '/',
        '/fleets',
        '/metricsx',
        '/a/metrics',
        '/a//b',
        '/a;b=c/d',
        '/a%2Fb',
        '/a%20b',
        '/.a/..b/c..',
      ]) {
        assert.equal((await send(request(path, 'Host: x'))).url, path)
      }
    })

    // With the other fronts, only the instance limits logins: see the last test of this file.
    if (limited) {
      it('counts every spelling of a login that an instance would route there', async () => {
        const readers = new Readers([login])
        await readers.listen()
        after(() => readers.close())
        let direct = 0
        for (const target of spellings(login)) {
          if (await readers.reaches(target)) direct++
          await until(async () => (await send(request(login, 'Host: x'))).status === 429, { what: 'the limit' })
          const { url: passed } = await send(request(target, 'Host: x'))
          if (passed !== undefined) assert.ok(!(await readers.reaches(passed)), `${target} is passed on as ${passed}`)
        }
        assert.ok(direct > 40, `${direct} spellings reach the login without a front`)
        assert.equal((await send(request('/api/v1/authors', 'Host: x'))).url, '/api/v1/authors')
      })
    }

    it('sends one host to the instance, and no header in which a client names another URL', async () => {
      const names = ['Host', 'Port', 'Proto', 'Prefix', 'Server', 'Scheme'].map((part) => `X-Forwarded-${part}`)
      names.push('Forwarded', 'X-Original-URL', 'X-Original-Host', 'X-Rewrite-URL', 'X-Host')
      const lines = names.map((header) => `${header}: evil.example`)
      const { headers = {} } = await send(request('/a', 'Host: shop.example:81', ...lines))
      assert.equal(headers.host, 'shop.example:81')
      assert.equal(headers['x-forwarded-host'], 'shop.example:81')
      assert.equal(headers['x-forwarded-proto'], 'http')
      assert.match(String(headers['x-forwarded-port']), /^\d+$/)
      assert.doesNotMatch(JSON.stringify(headers), /evil/)

      for (const bytes of [
        request('http://shop.example/a', 'Host: evil.example'),
        request('http://shop.example/a', 'Host: shop.example:81'),
        request('http://shop.example:80/a', 'Host: shop.example:81'),
        request('/a', 'Host: shop.example', 'Host: evil.example'),
        request('/a', 'Host: evil.example', 'Host: shop.example'),
        request('/a', 'Host: shop.example, evil.example'),
      ]) {
        const { status, headers } = await send(bytes)
        if (headers === undefined) assert.equal(status, 400, bytes)
        else {
          assert.equal(headers.host, headers['x-forwarded-host'], bytes)
          assert.doesNotMatch(JSON.stringify(headers), /evil/, bytes)
        }
      }
    })

    if (caches) {
      it('caches no response for another host than the requested one', async () => {
        const hosts = [
          'shop.example',
          'shop.example:81',
          'SHOP.example:1337',
          'shop.example.',
          'evil.example',
          'shop.example ',
        ]
        const targets = ['', 'http://shop.example', 'http://evil.example', 'http://shop.example:82']
        let file = 0
        for (const poison of targets.flatMap((target) => hosts.map((host) => [target, host] as const))) {
          const path = `/static/${file++}.css`
          await send(request(poison[0] + path, `Host: ${poison[1]}`))
          const { text, status } = await send(request(path, 'Host: shop.example'))
          assert.equal(status, 200)
          assert.equal(text.split('\r\n\r\n')[1], 'shop.example shop.example', poison.join(' '))
        }
        const again = await send(request('/static/0.css', 'Host: shop.example'))
        assert.match(again.text, /^x-cache-status: HIT\r$/im)
      })
    }
  })
}

describe('path rules of the firewall in deploy/aws', () => {
  it('match every spelling of an operators’ path that an instance would route there', async () => {
    const file = readFileSync(new URL('../../deploy/aws/waf.tf', import.meta.url), 'utf8')
    const parts = [...file.matchAll(/^ +("(?:\[|\^).*"),$/gm)].map(([, literal = '']) => JSON.parse(literal) as string)
    assert.equal(parts.length, 2)
    const rule = new RegExp(parts.join('|'))
    const readers = new Readers(operators)
    await readers.listen()
    after(() => readers.close())
    // An ALB rejects other targets and fragments. The transformations of the rule: URL_DECODE, LOWERCASE.
    const transformed = (target: string): string =>
      target
        .replace(/[?#].*$/s, '')
        .replace(/%([\da-f]{2})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)))
    for (const target of operators.flatMap(spellings).filter((each) => each.startsWith('/'))) {
      const matches = rule.test(transformed(target).toLowerCase())
      if (await readers.reaches(target)) assert.ok(matches, target)
    }
    for (const path of ['/', '/fleets', '/metricsx', '/a/metrics', '/.well-known/a', '/a..b/..c']) {
      assert.ok(!rule.test(transformed(path)), path)
    }
  })
})

describe('path rules of an instance', () => {
  it('counts every spelling of a login', async () => {
    const routerOptions: RouterOptions = {
      caseSensitive: false,
      ignoreDuplicateSlashes: true,
      useSemicolonDelimiter: true,
    }
    const app = Fastify({ routerOptions })
    atEnd(() => app.close())
    await app.register(rateLimit)
    let logins = 0
    app.get(login, { config: { rateLimit: authentication(5) } }, async () => `${++logins}`)
    const url = await app.listen({ port: 0, host: '127.0.0.1' })
    for (const target of spellings(login)) await raw(url, request(target, 'Host: x'))
    assert.equal(logins, 5)
  })
})
