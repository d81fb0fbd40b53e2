import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { type FleetOptions, fleet } from '../../src/index.ts'
import { writeMmdb } from './mmdb-writer.ts'

const folder = mkdtempSync(join(tmpdir(), 'fleet-geo-'))
after(() => rmSync(folder, { recursive: true }))
const database = join(folder, 'country.mmdb')
writeFileSync(
  database,
  writeMmdb({ '5.5.0.0/16': { country: { iso_code: 'BR' } }, '2001:db8::/32': { country: { iso_code: 'JP' } } }),
)

async function build(t: TestContext, options: FleetOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(fleet, { lifecycle: { signals: false }, redis: { client: null }, ...options })
  app.get('/where', async (request) => request.geo)
  return app
}

describe('geo in a fleet', () => {
  it('is enabled by default and trusts no header', async (t) => {
    const app = await build(t)
    const headers = { 'cf-ipcountry': 'DE' }
    assert.deepEqual((await app.inject({ url: '/where', headers })).json(), { source: 'none' })
    const { statusCode, body } = await app.inject({ url: '/api/v1/geo/endpoint', headers })
    assert.equal(statusCode, 200)
    assert.deepEqual(JSON.parse(body).region, null)
  })

  it('passes database, edges and regions on, and picks the region', async (t) => {
    const app = await build(t, {
      identity: { region: 'eu' },
      geo: {
        database,
        edges: ['10.1.0.0/16'],
        regions: {
          eu: { url: 'https://eu.example.com', countries: ['JP', 'FR'] },
          us: { url: 'https://us.example.com', countries: ['BR'] },
        },
        probe: { type: 'off' },
      },
    })
    const send = async (url: string, remoteAddress: string) =>
      (await app.inject({ url, remoteAddress, headers: { 'cf-ipcountry': 'FR' } })).json()
    assert.deepEqual(await send('/where', '5.5.1.2'), { country: 'BR', source: 'database', region: 'us' })
    assert.deepEqual(await send('/where', '2001:db8::1'), { country: 'JP', source: 'database', region: 'eu' })
    assert.deepEqual(await send('/where', '10.1.2.3'), { country: 'FR', source: 'edge', region: 'eu' })
    assert.deepEqual(await send('/api/v1/geo/endpoint', '5.5.1.2'), {
      country: 'BR',
      source: 'database',
      region: 'us',
      endpoint: 'https://us.example.com',
      current: 'eu',
      alternatives: [{ region: 'eu', endpoint: 'https://eu.example.com', healthy: true }],
    })
    const { geo } = (await app.inject('/api/v1/load-balancer/config')).json()
    assert.deepEqual(geo.edges, ['10.1.0.0/16'])
  })

  it('can be disabled', async (t) => {
    const app = await build(t, { geo: false })
    assert.equal((await app.inject('/api/v1/geo/endpoint')).statusCode, 404)
    assert.equal(app.hasRequestDecorator('geo'), false)
  })

  it('rejects wrong options at boot', async (t) => {
    await assert.rejects(build(t, { geo: { database: join(folder, 'none.mmdb') } }), { code: 'FLEET_ERR_GEO_DATABASE' })
    await assert.rejects(build(t, { geo: { edges: ['everyone'] } }), { code: 'FLEET_ERR_OPTION_INVALID' })
  })
})
