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
    env: { REGIONS: Record<string, Region>; COUNTRIES?: Record<string, string> },
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

  it('tries all regions if all have failed, and responds 502 if none is available', async () => {
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
    assert.deepEqual([status, body.message], [502, 'no region is available'])
  })
})
