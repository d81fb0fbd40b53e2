import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { resolveOptions } from '../../src/base/options.ts'
import type { GeoDatabase } from '../../src/geo/database.ts'
import { geoOptions } from '../../src/geo/index.ts'
import { isCountry, type Location, Locator } from '../../src/geo/locator.ts'
import { distanceKm } from '../../src/geo/place.ts'
import { type RegionOptions, Regions } from '../../src/geo/regions.ts'
import { liveObjects } from '../helpers/live-objects.ts'

describe('the country of a request', () => {
  /** A database with these records by address. */
  const databaseOf = (records: Record<string, unknown>): GeoDatabase =>
    ({ find: (address: string) => records[address] }) as unknown as GeoDatabase
  const found = (record: unknown): Location =>
    new Locator({ edges: [], headers: [] }, databaseOf({ '5.5.5.5': record })).locate(() => '5.5.5.5', {})

  it('is a code of two capital letters that stands for a country', () => {
    for (const code of ['DE', 'XK', 'XZ', 'ZX']) assert.equal(isCountry(code), true, code)
    for (const code of ['XX', 'ZZ', 'de', 'DEU', 'D', '', 'D1', 'DE\n']) assert.equal(isCountry(code), false, code)
  })

  it('is nested in a record, or at its top, or that of registration', () => {
    const source = 'database'
    assert.deepEqual(found({ country: { iso_code: 'DE' }, registered_country: { iso_code: 'FR' } }), {
      country: 'DE',
      source,
    })
    assert.deepEqual(found({ country: 'DE', country_code: 'FR' }), { country: 'DE', source })
    assert.deepEqual(found({ country_code: 'FR', registered_country: { iso_code: 'DE' } }), { country: 'FR', source })
    assert.deepEqual(found({ country: {}, registered_country: { iso_code: 'DE' } }), { country: 'DE', source })
    for (const record of [{ country: 'XX' }, { country: { iso_code: 1 } }, {}, null, undefined, 'DE', 7])
      assert.deepEqual(found(record), { source: 'none' })
  })

  it('comes with coordinates if the record has both', () => {
    const location = { latitude: 1, longitude: 2 }
    const source = 'database'
    assert.deepEqual(found({ country: 'DE', location }), { country: 'DE', place: location, source })
    assert.deepEqual(found({ location: { latitude: 0, longitude: 0, more: 1 } }), {
      place: { latitude: 0, longitude: 0 },
      source,
    })
    for (const half of [
      { latitude: 1 },
      { longitude: 2 },
      { latitude: '1', longitude: 2 },
      { latitude: 1, longitude: '2' },
    ]) {
      assert.deepEqual(found({ country: 'DE', location: half }), { country: 'DE', source })
      assert.deepEqual(found({ location: half }), { source: 'none' })
    }
  })

  it('is computed once per record', () => {
    const record = { country: 'DE' }
    const locator = new Locator({ edges: [], headers: [] }, databaseOf({ a: record, b: record }))
    assert.equal(
      locator.locate(() => 'a', {}),
      locator.locate(() => 'b', {}),
    )
  })

  it('of a record that the database no longer keeps is not kept either', () => {
    class Mark {
      readonly country = 'DE'
    }
    const database = { find: () => new Mark() } as unknown as GeoDatabase
    const locator = new Locator({ edges: [], headers: [] }, database)
    for (let i = 0; i < 50; i++) assert.equal(locator.locate(() => '5.5.5.5', {}).country, 'DE')
    assert.ok(liveObjects(Mark) <= 5, `${liveObjects(Mark)} records`)
  })

  it('is that of a header of a trusted edge, in the order of the headers, else of the client behind the edges', () => {
    const options = { edges: ['10.0.0.0/8'], headers: ['CF-IPCountry', 'x-b'] }
    const locator = new Locator(options, databaseOf({ '5.5.5.5': { country: 'BR' }, '10.0.0.1': { country: 'US' } }))
    const behind = (peer: string) => (skip?: (address: string) => boolean) => (skip?.(peer) ? '5.5.5.5' : peer)
    const of = (peer: string, headers: Record<string, string>): Location => locator.locate(behind(peer), headers)
    assert.deepEqual(of('10.0.0.1', { 'cf-ipcountry': 'de', 'x-b': 'FR' }), { country: 'DE', source: 'edge' })
    assert.deepEqual(of('10.0.0.1', { 'cf-ipcountry': 'XX', 'x-b': 'FR' }), { country: 'FR', source: 'edge' })
    assert.deepEqual(of('10.0.0.1', { 'cf-ipcountry': 'XX' }), { country: 'BR', source: 'database' })
    assert.deepEqual(of('5.5.5.5', { 'cf-ipcountry': 'DE' }), { country: 'BR', source: 'database' })
    assert.deepEqual(new Locator(options, undefined).locate(behind('10.0.0.1'), {}), { source: 'none' })
    assert.throws(() => new Locator({ ...options, edges: ['x'] }, undefined), { message: /geo\.edges/ })
  })
})

describe('the regions', () => {
  const off = resolveOptions('geo', geoOptions, { probe: { type: 'off' } }).probe
  const regionsOf = (regions: Record<string, RegionOptions>): Regions => new Regions(regions, undefined, off as never)
  const url = 'https://a.example'
  const order = (regions: Regions, country?: string, place?: { latitude: number; longitude: number }): string =>
    regions
      .rank(country, place)
      .map(({ name }) => name)
      .join(' ')

  it('are ordered by health, then country, then distance, then as they are given', () => {
    const regions = regionsOf({
      first: { url, location: { latitude: 0, longitude: 0 } },
      listed: { url, countries: ['DE'], location: { latitude: 0, longitude: 180 } },
      far: { url, location: { latitude: 0, longitude: 179 } },
      nowhere: { url, countries: ['FR'] },
    })
    assert.equal(order(regions), 'first listed far nowhere')
    assert.equal(order(regions, 'DE'), 'listed first far nowhere')
    assert.equal(order(regions, undefined, { latitude: 0, longitude: 0 }), 'first far listed nowhere')
    assert.equal(order(regions, 'DE', { latitude: 0, longitude: 0 }), 'listed first far nowhere')
    assert.equal(order(regions, 'FR', { latitude: 0, longitude: 170 }), 'nowhere far listed first')
    for (const region of regions.all) if (region.name !== 'far') region.healthy = false
    assert.equal(order(regions, 'DE'), 'far listed first nowhere')
    assert.ok(regionsOf({ a: { url, countries: ['DE'] } }).all.every(({ healthy }) => healthy))
  })

  it('need countries or a location within the globe', () => {
    const at = (latitude: number, longitude: number) => () =>
      regionsOf({ a: { url, location: { latitude, longitude } } })
    for (const [latitude, longitude] of [
      [90, 180],
      [-90, -180],
      [0, 0],
    ] as const)
      at(latitude, longitude)()
    for (const [latitude, longitude] of [
      [90.1, 0],
      [-90.1, 0],
      [0, 180.1],
      [0, -180.1],
    ] as const)
      assert.throws(at(latitude, longitude), { code: 'FLEET_ERR_OPTION_INVALID' })
    assert.throws(() => regionsOf({ a: { url, countries: ['DE', 'xx'] } }), {
      message: /geo\.regions\.a\.countries.*"xx"/,
    })
    assert.throws(() => regionsOf({ a: { url } }), { message: /needs `countries` or a `location`/ })
  })
})

it('the options of geo have these defaults', () => {
  assert.deepEqual(resolveOptions('geo', geoOptions, {}), {
    edges: [],
    headers: [
      'cf-ipcountry',
      'cloudfront-viewer-country',
      'x-appengine-country',
      'x-vercel-ip-country',
      'x-country-code',
    ],
    regions: {},
    redirect: false,
    endpoint: '/api/v1/geo/endpoint',
    probe: resolveOptions('geo', { probe: geoOptions.probe }, { probe: { intervalMs: 5000, timeoutMs: 2000 } }).probe,
  })
})

it('the distance of two places is that along a sphere of 6371 km', () => {
  const km = (...[a, b, c, d]: [number, number, number, number]): number =>
    Math.round(distanceKm({ latitude: a, longitude: b }, { latitude: c, longitude: d }))
  const quarter = Math.round((6371 * Math.PI) / 2)
  assert.deepEqual([km(0, 0, 0, 90), km(0, 0, 90, 0), km(-90, 0, 0, 120)], [quarter, quarter, quarter])
  assert.deepEqual([km(0, 0, 0, 180), km(90, 0, -90, 0)], [20_015, 20_015])
  assert.deepEqual([km(10, 20, 10, 20), km(60, 0, 60, 180)], [0, Math.round((6371 * Math.PI) / 3)])
  // Berlin and Paris.
  assert.equal(km(52.52, 13.405, 48.8566, 2.3522), 877)
})
