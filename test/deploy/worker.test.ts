import assert from 'node:assert/strict'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, beforeEach, describe, it } from 'node:test'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'

interface Region {
  readonly url: string
  readonly latitude: number
  readonly longitude: number
}
interface WorkerModule {
  fetch(
    request: Request,
    env: {
      REGIONS: Record<string, Region>
      POOLS?: Record<string, Record<string, Region>>
      ROUTES?: string
      COUNTRIES?: Record<string, string>
    },
    ctx: Context,
  ): Promise<Response>
}
interface Context {
  waitUntil(work: Promise<unknown>): void
}

/** A region's load balancer, which responds with its name and the request. */
class Front {
  readonly name: string
  readonly server: Server
  status = 200
  requests: string[] = []
  headers: IncomingHttpHeaders = {}
  bodies: string[] = []

  constructor(name: string) {
    this.name = name
    this.server = createServer((request, response) => {
      this.headers = request.headers
      this.requests.push(`${request.method} ${request.url}`)
      let body = ''
      request.on('data', (piece) => {
        body += piece
      })
      request.on('end', () => {
        this.bodies.push(body)
        response.writeHead(this.status, { 'content-type': 'application/json', location: '/elsewhere' })
        response.end(JSON.stringify({ region: this.name, host: request.headers['x-forwarded-host'], body }))
      })
    })
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve))
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`
  }
}

const frankfurt = { country: 'DE', latitude: '50.1', longitude: '8.7' }
const tokyo = { country: 'JP', latitude: '35.7', longitude: '139.7' }
const places = {
  eu: { latitude: 53.3, longitude: -6.3 },
  us: { latitude: 39, longitude: -77.5 },
  ap: { latitude: 1.3, longitude: 103.8 },
} as const

describe('the Worker', () => {
  const fronts = { eu: new Front('eu'), us: new Front('us'), ap: new Front('ap') }
  let worker: WorkerModule
  let loads = 0
  const background: Promise<unknown>[] = []
  const ctx: Context = { waitUntil: (work) => void background.push(work) }

  before(() => Promise.all(Object.values(fronts).map((front) => front.listen())))
  after(() => {
    for (const { server } of Object.values(fronts)) {
      server.closeAllConnections()
      server.close()
    }
  })
  beforeEach(async () => {
    // Its state of regions lasts as long as its module.
    worker = (await import(`../../deploy/cloudflare/worker/worker.js?${loads++}`)).default
    for (const front of Object.values(fronts)) Object.assign(front, { status: 200, requests: [], bodies: [] })
  })

  const regions = (changed: Partial<Record<keyof typeof places, string>> = {}): Record<string, Region> =>
    Object.fromEntries(
      (['ap', 'eu', 'us'] as const).map((name) => [name, { url: changed[name] ?? fronts[name].url, ...places[name] }]),
    )
  const send = async (
    cf: object | undefined,
    init: RequestInit & { path?: string } = {},
    env: object = {},
  ): Promise<{ status: number; region: string | null; body: Record<string, unknown> }> => {
    const request = Object.assign(new Request(`https://shop.example.com${init.path ?? '/'}`, init), { cf })
    const response = await worker.fetch(request, { REGIONS: regions(), ...env }, ctx)
    return {
      status: response.status,
      region: response.headers.get('x-fleet-region'),
      body: (await response.json()) as Record<string, unknown>,
    }
  }

  it('sends a client to the nearest region', async () => {
    assert.equal((await send(frankfurt)).region, 'eu')
    assert.equal((await send(tokyo)).region, 'ap')
    assert.equal((await send({ country: 'BR', latitude: '-3.1', longitude: '-60' })).region, 'us')
    // Across the date line Fiji is nearer to Singapore than to Virginia.
    assert.equal((await send({ country: 'FJ', latitude: '-18', longitude: '178' })).region, 'ap')
  })

  it('uses any region for a client without a location', async () => {
    for (const cf of [undefined, {}, { country: 'T1' }]) assert.equal((await send(cf)).status, 200)
  })

  it('forwards path, query, body and host, and returns redirects unchanged', async () => {
    const { body } = await send(frankfurt, { method: 'POST', path: '/orders?a=%2F', body: 'two of them' })
    assert.deepEqual(body, { region: 'eu', host: 'shop.example.com', body: 'two of them' })
    assert.deepEqual(fronts.eu.requests, ['POST /orders?a=%2F'])
    fronts.eu.status = 302
    assert.equal((await send(frankfurt)).status, 302)
  })

  it('sends every path to the region, also one that resembles another host', async () => {
    const evil = new Front('evil')
    await evil.listen()
    try {
      const { host } = new URL(evil.url)
      const paths = [
        `//${host}/x`,
        `/\\${host}/x`,
        `/\\/${host}/x`,
        `///${host}/x`,
        `/%2f${host}/x`,
        `/.//${host}/x`,
        '//@/x',
        '//:',
      ]
      for (const path of paths) {
        for (const method of ['GET', 'POST']) {
          fronts.eu.requests = []
          const { status, region } = await send(frankfurt, { method, path })
          assert.deepEqual([status, region], [200, 'eu'], path)
          const { pathname } = new URL(`https://shop.example.com${path}`)
          assert.deepEqual(fronts.eu.requests, [`${method} ${pathname}`])
        }
      }
      assert.deepEqual(evil.requests, [])
    } finally {
      evil.server.close()
    }
  })

  it('removes headers by which a client claims another URL', async () => {
    const names = [
      'forwarded',
      'x-forwarded-host',
      'x-forwarded-port',
      'x-forwarded-proto',
      'x-original-url',
      'x-rewrite-url',
    ]
    await send(frankfurt, { headers: Object.fromEntries(names.map((name) => [name, 'evil.example'])) })
    const { 'x-forwarded-host': host, 'x-forwarded-proto': protocol } = fronts.eu.headers
    assert.deepEqual([host, protocol], ['shop.example.com', 'https'])
    assert.doesNotMatch(JSON.stringify(fronts.eu.headers), /evil/)
  })

  it('keeps a bound country in its region, even if that is far or down', async () => {
    const bound = { COUNTRIES: { DE: 'us' } }
    assert.equal((await send(frankfurt, {}, bound)).region, 'us')
    fronts.us.status = 503
    const { status, region } = await send(frankfurt, {}, bound)
    assert.deepEqual([status, region], [503, 'us'])
    assert.deepEqual(fronts.eu.requests, [])
  })

  for (const status of [502, 503, 504, 521, 530]) {
    it(`retries a safe request in the next region on ${status}`, async () => {
      fronts.eu.status = status
      const { region, status: responded } = await send(frankfurt)
      assert.deepEqual([responded, region], [200, 'us'])
      // From then on the region gets no requests.
      fronts.eu.requests = []
      assert.equal((await send(frankfurt)).region, 'us')
      assert.deepEqual(fronts.eu.requests, [])
    })
  }

  it('returns an application’s own errors', async () => {
    fronts.eu.status = 500
    const { status, region } = await send(frankfurt)
    assert.deepEqual([status, region], [500, 'eu'])
  })

  it('retries a safe request if a region is unreachable', async () => {
    const env = { REGIONS: regions({ eu: `http://127.0.0.1:${await freePort()}` }) }
    assert.equal((await send(frankfurt, {}, env)).region, 'us')
  })

  it('never sends a POST twice, nor to a region in cooldown', async () => {
    fronts.eu.status = 503
    const lost = await send(frankfurt, { method: 'POST', body: 'an order' })
    assert.deepEqual([lost.status, lost.region], [503, 'eu'])
    assert.deepEqual([fronts.us.requests, fronts.ap.requests], [[], []])
    const next = await send(frankfurt, { method: 'POST', body: 'another' })
    assert.deepEqual([next.status, next.region, next.body.body], [200, 'us', 'another'])
  })

  it('does not limit the duration of a stream', async (t) => {
    const stream = createServer((_request, response) => {
      response.write('first ')
      finish = () => response.end('last')
    })
    let finish: () => void = () => assert.fail('no request arrived')
    await new Promise<void>((resolve) => stream.listen(0, '127.0.0.1', resolve))
    t.after(() => void stream.close())
    const url = `http://127.0.0.1:${(stream.address() as AddressInfo).port}`
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const request = Object.assign(new Request('https://shop.example.com/events'), { cf: frankfurt })
    const response = await worker.fetch(request, { REGIONS: regions({ eu: url }) }, ctx)
    t.mock.timers.tick(60_000)
    finish()
    assert.equal(await response.text(), 'first last')
  })

  it('retries a safe request if a region times out', async (t) => {
    const arrived = Promise.withResolvers<void>()
    const silent = createServer(() => arrived.resolve())
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    t.after(() => {
      silent.closeAllConnections()
      silent.close()
    })
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const response = send(frankfurt, {}, { REGIONS: regions({ eu: url }) })
    await arrived.promise
    t.mock.timers.tick(15_000)
    assert.equal((await response).region, 'us')
  })

  it('probes /ready before a failed region gets requests again', async (t) => {
    fronts.eu.status = 503
    await send(frankfurt)
    t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 11_000 })
    fronts.eu.requests = []
    // The cooldown is over, but the probe has not succeeded yet.
    assert.equal((await send(frankfurt)).region, 'us')
    await Promise.all(background)
    assert.deepEqual(fronts.eu.requests, ['GET /ready'])
    assert.equal((await send(frankfurt)).region, 'us')

    t.mock.timers.setTime(Date.now() + 11_000)
    fronts.eu.status = 200
    await send(frankfurt)
    await Promise.all(background)
    await until(async () => (await send(frankfurt)).region === 'eu', { what: 'the region to be back' })
  })

  it('tries all regions if all have failed, and responds 503 if none is available', async () => {
    for (const front of Object.values(fronts)) front.status = 503
    assert.equal((await send(frankfurt)).status, 503)
    for (const front of Object.values(fronts)) front.status = 200
    assert.equal((await send(frankfurt)).status, 200)

    const unreachable = `http://127.0.0.1:${await freePort()}`
    const { status, body } = await send(
      frankfurt,
      {},
      { REGIONS: regions({ eu: unreachable, us: unreachable, ap: unreachable }) },
    )
    assert.deepEqual([status, body.code, body.message], [503, 'FLEET_ERR_NO_TARGET', 'no region is available'])
  })

  it('does not use another region for a country whose region does not exist', async () => {
    assert.equal((await send(frankfurt, {}, { COUNTRIES: { DE: 'de' } })).status, 503)
    for (const { requests } of Object.values(fronts)) assert.deepEqual(requests, [])
  })

  describe('with pools', () => {
    const pools = {
      v2: { eu: new Front('v2 eu'), us: new Front('v2 us') },
      shop: { eu: new Front('shop eu') },
      'shop-api': { us: new Front('shop-api us') },
    }
    const all = Object.values(pools).flatMap((own) => Object.values<Front>(own))
    before(() => Promise.all(all.map((front) => front.listen())))
    after(() => {
      for (const { server } of all) {
        server.closeAllConnections()
        server.close()
      }
    })
    beforeEach(() => {
      for (const front of all) Object.assign(front, { status: 200, requests: [], bodies: [] })
    })

    const ROUTES = `/api/v2=v2, /api/v2/old=default //shop.example.org=shop
      //Shop.Example.org/api=shop-api x-version:2=v2 X-Version:3=shop`
    const envOf = (own: object = {}): object => ({
      ROUTES,
      POOLS: Object.fromEntries(
        Object.entries(pools).map(([pool, regions]) => [
          pool,
          Object.fromEntries(
            Object.entries<Front>(regions).map(([name, { url }]) => [name, { url, ...places[name as 'eu'] }]),
          ),
        ]),
      ),
      ...own,
    })
    const ask = async (
      url: string,
      { cf = frankfurt, env = envOf(), ...init }: RequestInit & { cf?: object; env?: object } = {},
    ): Promise<{ status: number; region: unknown; headers: Headers }> => {
      const request = Object.assign(new Request(/^https:/.test(url) ? url : `https://www.example.org${url}`, init), {
        cf,
      })
      const response = await worker.fetch(request, { REGIONS: regions(), ...env }, ctx)
      const { region = null } = (await response.json()) as { region?: string }
      return { status: response.status, region, headers: response.headers }
    }

    const paths: Record<string, string> = {
      '/': 'eu',
      '/api': 'eu',
      '/api/v20': 'eu',
      '/api/v2.1/x': 'eu',
      '/x/api/v2': 'eu',
      '/api/v2/old': 'eu',
      '/api/v2/old/x?y=/api/v2': 'eu',
      '/?/api/v2': 'eu',
      '/api/v2': 'v2 eu',
      '/api/v2/': 'v2 eu',
      '/api/v2?x=1': 'v2 eu',
      '/api/v2/older': 'v2 eu',
      '/%61pi/v2': 'v2 eu',
      '//api//v2/x': 'v2 eu',
      '/API/V2/x': 'v2 eu',
      '/api%2Fv2': 'v2 eu',
      '/api/v2;a=b/x': 'v2 eu',
      '/api/\\v2': 'v2 eu',
      '/api/x/../v2': 'v2 eu',
      '/api/v2/%zz': 'v2 eu',
      'https://shop.example.org/': 'shop eu',
      'https://SHOP.example.org:8443/api2': 'shop eu',
      'https://shop.example.org./x': 'shop eu',
      'https://shop.example.org/api/v2': 'shop-api us',
      'https://shop.example.org/api': 'shop-api us',
      'https://my.shop.example.org/api': 'eu',
    }
    for (const [path, served] of Object.entries(paths))
      it(`sends ${path} to ${served}`, async () => {
        assert.equal((await ask(path)).region, served)
      })

    it('prefers a header to a host and a path, and compares its whole value', async () => {
      const of = async (version: string, url = '/'): Promise<unknown> =>
        (await ask(url, { headers: { 'X-VERSION': version } })).region
      assert.deepEqual(
        [await of('2'), await of('2', 'https://shop.example.org/api'), await of('3', '/api/v2')],
        ['v2 eu', 'v2 eu', 'shop eu'],
      )
      for (const other of ['20', '2, 2', '1']) assert.equal(await of(other), 'eu')
      const first = envOf({ ROUTES: 'x-b:1=shop x-a:1=v2' })
      assert.equal((await ask('/', { env: first, headers: { 'x-a': '1', 'x-b': '1' } })).region, 'shop eu')
    })

    it('fails over inside the pool only, and keeps its state apart', async () => {
      pools.v2.eu.status = 503
      assert.equal((await ask('/api/v2')).region, 'v2 us')
      assert.equal((await ask('/')).region, 'eu')
      pools.v2.us.status = 503
      const down = await ask('/api/v2')
      assert.equal(down.status, 503)
      for (const method of ['GET', 'POST']) assert.equal((await ask('/', { method })).region, 'eu')
      fronts.eu.requests = []
      for (let n = 0; n < 5; n++) assert.equal((await ask('/api/v2/x')).status, 503)
      for (const front of [...Object.values(fronts), ...Object.values(pools.shop)])
        assert.doesNotMatch(front.requests.join(), /v2/)
    })

    it('keeps the pools of one address apart', async () => {
      const region = { url: fronts.eu.url, ...places.eu }
      const shared = envOf({ POOLS: { v2: { eu: region } }, ROUTES: '/api/v2=v2' })
      fronts.eu.status = 503
      assert.equal((await ask('/api/v2', { env: shared })).status, 503)
      fronts.eu.status = 200
      assert.equal((await ask('/', { env: shared })).region, 'eu')
    })

    it('responds 503 with a code for a pool without a reachable region', async () => {
      const unreachable = { url: `http://127.0.0.1:${await freePort()}`, ...places.eu }
      const env = envOf({ POOLS: { v2: { eu: unreachable } }, ROUTES: '/api/v2=v2' })
      const request = Object.assign(new Request('https://www.example.org/api/v2'), { cf: frankfurt })
      const response = await worker.fetch(request, { REGIONS: regions(), ...env }, ctx)
      assert.deepEqual([response.status, response.headers.get('retry-after')], [503, '10'])
      assert.deepEqual(await response.json(), {
        statusCode: 503,
        code: 'FLEET_ERR_NO_TARGET',
        error: 'Service Unavailable',
        message: 'no region of the pool v2 is available',
      })
      for (const { requests } of Object.values(fronts)) assert.deepEqual(requests, [])
    })

    it('keeps a bound country in its region, in each pool', async () => {
      const env = envOf({ COUNTRIES: { DE: 'us' } })
      assert.equal((await ask('/api/v2', { env })).region, 'v2 us')
      // This pool is not in that region.
      assert.equal((await ask('https://shop.example.org/', { env })).status, 503)
      assert.deepEqual(pools.shop.eu.requests, [])
    })

    it('sends every path to a region of the pool, also one that resembles another host', async () => {
      const { host } = new URL(fronts.us.url)
      for (const path of [`//${host}/x`, `/\\${host}/x`]) {
        const { region } = await ask(`https://shop.example.org${path}`)
        assert.equal(region, 'shop eu')
      }
    })

    for (const [routes, message] of Object.entries({
      '/api/v3=v3': /"\/api\/v3=v3" names the unknown pool "v3"/,
      '/x=constructor': /unknown pool "constructor"/,
      '/x=': /unknown pool ""/,
      '/x': /"\/x" is not MATCH=POOL/,
      'x=v2': /"x=v2" has no path, host or header/,
      'a b:1=v2': /"a" is not MATCH=POOL/,
      '/a:1/b:2=v2 /b': /"\/b" is not MATCH=POOL/,
    }))
      it(`rejects the route ${routes}`, async () => {
        for (let n = 0; n < 2; n++) await assert.rejects(ask('/', { env: envOf({ ROUTES: routes }) }), message)
      })
  })
})
