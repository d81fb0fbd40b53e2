import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { connect } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { type GeoOptions, geo, type Place } from '../../src/geo/index.ts'
import { distanceKm } from '../../src/geo/place.ts'
import { identity } from '../../src/instance/identity.ts'
import { startUpstreams } from '../edge/upstream.ts'
import { liveObjects } from '../helpers/live-objects.ts'
import { until } from '../helpers/until.ts'
import { writeMmdb } from './mmdb-writer.ts'

const places: Record<string, Place> = {
  AU: { latitude: -25, longitude: 134 },
  CA: { latitude: 56, longitude: -106 },
  CO: { latitude: 4, longitude: -73 },
  DE: { latitude: 51, longitude: 10 },
  FJ: { latitude: -18, longitude: 178 },
  FR: { latitude: 46, longitude: 2 },
  GB: { latitude: 54, longitude: -2 },
  JP: { latitude: 36, longitude: 138 },
  MX: { latitude: 23, longitude: -102 },
  MY: { latitude: 3, longitude: 109 },
  NZ: { latitude: -41, longitude: 174 },
  PL: { latitude: 52, longitude: 20 },
  RU: { latitude: 56, longitude: 45 },
  SG: { latitude: 1, longitude: 104 },
  US: { latitude: 39, longitude: -98 },
}
/** An address in the database for each of them. */
const addressOf = (country: string): string => `20.${Object.keys(places).indexOf(country)}.1.2`

const folder = mkdtempSync(join(tmpdir(), 'fleet-geo-'))
const database = join(folder, 'country.mmdb')
writeFileSync(
  database,
  writeMmdb({
    '5.5.0.0/16': { country: { iso_code: 'BR' } },
    '6.6.0.0/16': { country: { iso_code: 'US' }, location: { latitude: 47.6, longitude: -122.3 } },
    '7.7.0.0/16': { country_code: 'AU' },
    '8.8.0.0/16': { registered_country: { iso_code: 'JP' } },
    '9.9.0.0/16': { nothing: 'useful' },
    ...Object.fromEntries(
      Object.entries(places).map(([iso_code, { latitude, longitude }], i) => [
        `20.${i}.0.0/16`,
        { country: { iso_code }, location: { latitude, longitude } },
      ]),
    ),
  }),
)

async function app(options: GeoOptions, region?: string): Promise<FastifyInstance> {
  const instance = Fastify()
  await instance.register(identity, { region })
  await instance.register(geo, { probe: { type: 'off' }, ...options })
  instance.get('/where', async (request) => request.geo)
  after(() => instance.close())
  await instance.ready()
  return instance
}

const regions = {
  eu: { url: 'https://eu.example.com', countries: ['DE', 'FR'], location: { latitude: 51, longitude: 10 } },
  us: { url: 'https://us.example.com', location: { latitude: 39, longitude: -77 } },
  west: { url: 'https://west.example.com', location: { latitude: 45, longitude: -121 } },
  asia: { url: 'https://asia.example.com', countries: ['SG', 'RU'], location: { latitude: 1, longitude: 104 } },
}

const send = async (
  instance: FastifyInstance,
  headers: Record<string, string> = {},
  remoteAddress = '127.0.0.1',
  url = '/where',
) => (await instance.inject({ url, headers, remoteAddress })).json()

describe('request.geo', () => {
  it('trusts the country headers of an edge only', async () => {
    const instance = await app({ edges: ['10.1.0.0/16'] })
    const headers = { 'cf-ipcountry': 'de' }
    assert.deepEqual(await send(instance, headers, '10.1.2.3'), { country: 'DE', source: 'edge' })
    assert.deepEqual(await send(instance, headers, '10.2.2.3'), { source: 'none' })
    assert.deepEqual(await send(instance, { ...headers, 'x-forwarded-for': '10.1.2.3' }, '10.2.2.3'), {
      source: 'none',
    })
    assert.deepEqual(await send(instance, { 'cloudfront-viewer-country': 'FR' }, '10.1.2.3'), {
      country: 'FR',
      source: 'edge',
    })
    for (const code of ['XX', 'ZZ', 'T1', '', 'DEU', '<x>']) {
      assert.deepEqual(await send(instance, { 'cf-ipcountry': code }, '10.1.2.3'), { source: 'none' }, code)
    }
  })

  it('finds the edge behind trusted proxies, and the client behind the edge', async () => {
    const instance = await app({ edges: ['10.1.0.0/16'], trustProxy: ['127.0.0.1', '10.9.0.0/16'], database })
    const headers = { 'cf-ipcountry': 'DE', 'x-forwarded-for': '5.5.5.5, 10.1.2.3, 10.9.1.1' }
    assert.equal((await send(instance, headers)).country, 'DE')
    assert.equal((await send(instance, { 'x-forwarded-for': headers['x-forwarded-for'] })).country, 'BR')
    const forged = { 'cf-ipcountry': 'DE', 'x-forwarded-for': '10.1.2.3, 5.5.5.5, 10.9.1.1' }
    assert.equal((await send(instance, forged)).country, 'BR')
    const direct = await app({ edges: ['10.1.0.0/16'], database })
    assert.equal((await send(direct, { 'x-forwarded-for': '6.6.6.6, 5.5.5.5' }, '10.1.2.3')).country, 'BR')
  })

  it('looks the client up in the database when no edge names a country', async () => {
    const instance = await app({ database })
    assert.deepEqual(await send(instance, {}, '5.5.1.2'), { country: 'BR', source: 'database' })
    assert.deepEqual(await send(instance, {}, '6.6.1.2'), {
      country: 'US',
      place: { latitude: 47.6, longitude: -122.3 },
      source: 'database',
    })
    assert.equal((await send(instance, {}, '7.7.1.2')).country, 'AU')
    assert.equal((await send(instance, {}, '8.8.1.2')).country, 'JP')
    for (const address of ['9.9.1.2', '4.4.4.4', '::1'])
      assert.deepEqual(await send(instance, {}, address), { source: 'none' })
  })

  it('picks the region that lists the country, else the nearest, else the first', async () => {
    const instance = await app({ edges: ['127.0.0.1'], database, regions })
    const regionOf = async (country: string) => (await send(instance, {}, addressOf(country))).region
    for (const [country, expected] of Object.entries({
      DE: 'eu',
      PL: 'eu',
      GB: 'eu',
      RU: 'asia',
      JP: 'asia',
      AU: 'asia',
      MX: 'us',
      CO: 'us',
      CA: 'west',
    })) {
      assert.equal(await regionOf(country), expected, country)
    }
    assert.equal((await send(instance, {}, '6.6.1.2')).region, 'west')
    assert.equal((await send(instance, {}, '4.4.4.4')).region, 'eu')
    assert.equal((await send(instance, { 'cf-ipcountry': 'RU' })).region, 'asia')
    assert.equal((await send(instance, { 'cf-ipcountry': 'MX' })).region, 'eu')
  })

  it('prefers a region with a location to one without when no region lists the country', async () => {
    const { us } = regions
    const instance = await app({ database, regions: { ca: { url: 'https://ca.example.com', countries: ['CA'] }, us } })
    assert.equal((await send(instance, {}, addressOf('CA'))).region, 'ca')
    assert.equal((await send(instance, {}, addressOf('JP'))).region, 'us')
  })

  it('does not keep the requests that asked for it', async () => {
    class Mark {}
    const instance = Fastify()
    after(() => instance.close())
    await instance.register(geo)
    instance.addHook('onRequest', async (request) => void Object.assign(request, { mark: new Mark() }))
    instance.get('/where', async (request) => request.geo)
    for (let i = 0; i < 50; i++) assert.deepEqual(await send(instance), { source: 'none' })
    await until(() => liveObjects(Mark) <= 5, { what: 'the end of the requests' })
  })
})

describe('the region endpoint', () => {
  it('returns the best region and the alternatives', async () => {
    const instance = await app({ edges: ['127.0.0.1'], regions }, 'eu')
    const response = await instance.inject({ url: '/api/v1/geo/endpoint', headers: { 'cf-ipcountry': 'SG' } })
    assert.equal(response.headers['cache-control'], 'no-store')
    const body = response.json()
    assert.deepEqual(
      [body.country, body.region, body.endpoint, body.current],
      ['SG', 'asia', 'https://asia.example.com', 'eu'],
    )
    assert.deepEqual(body.alternatives.map(({ region }: { region: string }) => region).toSorted(), ['eu', 'us', 'west'])
    const nowhere = await app({})
    const empty = (await nowhere.inject('/api/v1/geo/endpoint')).json()
    assert.deepEqual(empty, {
      country: null,
      source: 'none',
      region: null,
      endpoint: null,
      current: null,
      alternatives: [],
    })
  })

  it('can be moved or disabled', async () => {
    const off = await app({ endpoint: false })
    assert.equal((await off.inject('/api/v1/geo/endpoint')).statusCode, 404)
    const moved = await app({ endpoint: '/region' })
    assert.equal((await moved.inject('/region')).statusCode, 200)
  })

  it('fails over to the next healthy region, and back', async () => {
    const [near, far] = await startUpstreams(2)
    const instance = await app(
      {
        edges: ['127.0.0.1'],
        regions: {
          near: { url: near?.url ?? '', countries: ['DE'] },
          far: { url: far?.url ?? '', location: places.US },
        },
        probe: { intervalMs: 30, timeoutMs: 30_000 },
      },
      'other',
    )
    const best = async () =>
      (await send(instance, { 'cf-ipcountry': 'DE' }, '127.0.0.1', '/api/v1/geo/endpoint')).region
    assert.equal(await best(), 'near')
    for (const state of [{ ready: false }, { draining: true }]) {
      Object.assign(near ?? {}, state)
      await until(async () => (await best()) === 'far', { what: `another region with ${JSON.stringify(state)}` })
      Object.assign(near ?? {}, { ready: true, draining: false })
      await until(async () => (await best()) === 'near', { what: 'the best region' })
    }
  })
})

describe('redirect', () => {
  it('redirects only GET and HEAD requests that belong to another region, with 307', async () => {
    const instance = await app({ edges: ['127.0.0.1'], regions, redirect: true }, 'eu')
    const to = async (
      headers: Record<string, string>,
      url = '/where?x=%2F',
      method: 'GET' | 'POST' | 'HEAD' = 'GET',
    ) => {
      const response = await instance.inject({ url, method, headers: { host: 'www.example.com', ...headers } })
      return response.statusCode === 307 ? response.headers.location : response.statusCode
    }
    assert.equal(await to({ 'cf-ipcountry': 'SG' }), 'https://asia.example.com/where?x=%2F')
    assert.equal(await to({ 'cf-ipcountry': 'SG' }, '/where', 'HEAD'), 'https://asia.example.com/where')
    assert.equal(await to({ 'cf-ipcountry': 'SG' }, '//evil.example/x'), 'https://asia.example.com//evil.example/x')
    assert.equal(await to({ 'cf-ipcountry': 'DE' }), 200)
    assert.equal(await to({}), 200)
    assert.equal(await to({ 'cf-ipcountry': 'MX' }), 200)
    assert.equal(await to({ 'cf-ipcountry': 'SG' }, '/where', 'POST'), 404)
    assert.equal(await to({ 'cf-ipcountry': 'SG', host: 'eu.example.com' }), 200)
    assert.equal(await to({ 'cf-ipcountry': 'SG' }, '/api/v1/geo/endpoint'), 200)
  })

  it('concerns no request that names the host of a region, in any case, with its port, and over HTTP/2', async () => {
    const instance = Fastify({ http2: true }) as unknown as FastifyInstance
    after(() => instance.close())
    await instance.register(identity, { region: 'eu' })
    await instance.register(geo, { edges: ['127.0.0.1'], regions, redirect: true, probe: { type: 'off' } })
    instance.get('/where', async () => 'here')
    const session = connect(await instance.listen({ port: 0, host: '127.0.0.1' }))
    const statuses: number[] = []
    for (const authority of ['www.example.com', 'eu.example.com', 'EU.example.com:443']) {
      const request = session.request({ ':path': '/where', ':authority': authority, 'cf-ipcountry': 'SG' })
      const [headers] = await once(request, 'response')
      request.close()
      statuses.push(headers[':status'])
    }
    // The app waits for open sessions when it closes.
    session.destroy()
    assert.deepEqual(statuses, [307, 200, 200])
  })

  it('is not stored by caches, and concerns no probe, upgrade or request in absolute form', async () => {
    const instance = await app({ edges: ['127.0.0.1'], regions, redirect: true }, 'eu')
    const foreign = { host: 'www.example.com', 'cf-ipcountry': 'SG' }
    const sent = await instance.inject({ url: '/where', headers: foreign })
    assert.deepEqual([sent.statusCode, sent.headers['cache-control']], [307, 'no-store'])
    const upgrade = { ...foreign, connection: 'upgrade', upgrade: 'websocket' }
    assert.equal((await instance.inject({ url: '/where', headers: upgrade })).statusCode, 200)
    const probed = Fastify()
    after(() => probed.close())
    await probed.register(identity, { region: 'eu' })
    await probed.register(geo, { edges: ['127.0.0.1'], regions, redirect: true, probe: { type: 'off' } })
    probed.get('/probe', { config: { probe: true } }, async () => 'ok')
    probed.get('/where', async () => 'here')
    const status = async (url: string): Promise<number> => (await probed.inject({ url, headers: foreign })).statusCode
    assert.deepEqual([await status('/probe'), await status('/where')], [200, 307])
  })

  it('does not lead to a region that is down', async () => {
    const [other] = await startUpstreams(1)
    const instance = await app(
      {
        ...{ edges: ['127.0.0.1'], redirect: true, probe: { intervalMs: 30, timeoutMs: 30_000 } },
        regions: { eu: regions.eu, near: { url: other?.url ?? '', countries: ['SG'] } },
      },
      'eu',
    )
    const headers = { host: 'www.example.com', 'cf-ipcountry': 'SG' }
    const status = async (): Promise<number> => (await instance.inject({ url: '/where', headers })).statusCode
    await until(async () => (await status()) === 307)
    other?.kill()
    await until(async () => (await status()) === 200, { what: 'the region to be down' })
    const found = (await instance.inject({ url: '/api/v1/geo/endpoint', headers })).json()
    assert.deepEqual(found.alternatives, [{ region: 'near', endpoint: other?.url, healthy: false }])
  })

  it('requires the own region to be one of the regions', async () => {
    await assert.rejects(app({ regions, redirect: true }), { code: 'FLEET_ERR_OPTION_INVALID' })
    await assert.rejects(app({ regions, redirect: true }, 'moon'), { code: 'FLEET_ERR_OPTION_INVALID' })
  })
})

describe('options', () => {
  it('are rejected at boot when they cannot work', async () => {
    for (const [options, code] of [
      [{ edges: ['everyone'] }, 'FLEET_ERR_OPTION_INVALID'],
      [{ regions: { a: { url: 'https://a.example' } } }, 'FLEET_ERR_OPTION_INVALID'],
      [{ regions: { a: { url: 'https://a.example', countries: ['ZZ'] } } }, 'FLEET_ERR_OPTION_INVALID'],
      [{ regions: { a: { url: 'nonsense', countries: ['DE'] } } }, 'FLEET_ERR_TARGET_INVALID'],
      [{ regions: { a: { url: 'https://a.example', location: 'DE' } } }, 'FLEET_ERR_OPTION_INVALID'],
      [{ regions: { a: { url: 'https://a.example', location: { latitude: 91 } } } }, 'FLEET_ERR_OPTION_INVALID'],
      [{ regions: { a: { countries: ['DE'] } } }, 'FLEET_ERR_TARGET_INVALID'],
      [{ database: join(folder, 'missing.mmdb') }, 'FLEET_ERR_GEO_DATABASE'],
      [{ wonders: true }, 'FLEET_ERR_OPTION_UNKNOWN'],
    ] as unknown as [GeoOptions, string][]) {
      await assert.rejects(app(options), { code }, JSON.stringify(options))
    }
  })
})

describe('distanceKm', () => {
  it('measures along the surface of the globe', () => {
    const known = [
      ['DE', 'FR', 800, 200],
      ['US', 'CA', 1900, 500],
      ['NZ', 'FJ', 2500, 500],
      ['SG', 'MY', 600, 400],
    ] as const
    for (const [a, b, km, tolerance] of known) {
      const found = distanceKm(places[a] as Place, places[b] as Place)
      assert.ok(Math.abs(found - km) < tolerance, `${a} to ${b}: ${found}`)
    }
    assert.equal(Math.round(distanceKm({ latitude: 0, longitude: 179 }, { latitude: 0, longitude: -179 })), 222)
  })
})
