import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import Fastify from 'fastify'
import { loadBalancer } from '../../src/instance/admin-api.ts'
import { health } from '../../src/instance/health/index.ts'
import { identity } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'

interface Schema {
  type?: string | string[]
  enum?: string[]
  items?: Schema
  properties?: Record<string, Schema>
  additionalProperties?: Schema | true
}

const typeOf = (value: unknown): string => (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value)
const types = new Set(['string', 'number', 'boolean', 'object', 'array', 'null'])

/** The differences between a value and its schema: all members of both have to match. */
function differences(schema: Schema, value: unknown, path: string): string[] {
  const allowed = [schema.type ?? 'nothing'].flat()
  const wrong = allowed.filter((type) => !types.has(type)).map((type) => `${path}: the type "${type}"`)
  if (!allowed.includes(typeOf(value))) wrong.push(`${path}: ${typeOf(value)} instead of ${allowed}`)
  if (schema.enum && !schema.enum.includes(value as string)) wrong.push(`${path}: ${value} is none of ${schema.enum}`)
  if (Array.isArray(value))
    return [...wrong, ...value.flatMap((item) => differences(schema.items ?? {}, item, `${path}[]`))]
  if (typeOf(value) !== 'object' || schema.additionalProperties === true) return wrong
  const members = value as Record<string, unknown>
  const others = schema.additionalProperties
  const names = new Set([...Object.keys(members), ...Object.keys(schema.properties ?? {})])
  for (const name of names) {
    const member = schema.properties?.[name] ?? others
    if (!member) wrong.push(`${path}.${name} is not documented`)
    else if (!(name in members)) wrong.push(`${path}.${name} is missing`)
    else wrong.push(...differences(member, members[name], `${path}.${name}`))
  }
  return wrong
}

describe('responses of probes and of operators’ endpoints', () => {
  it('have the members of their schemas, and no others', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    const schemas = new Map<string, { summary: string; tags: string[]; response: Record<string, Schema> }>()
    app.addHook('onRoute', ({ method, url, schema }) => {
      if (method !== 'HEAD') schemas.set(`${method} ${url}`, schema as never)
    })
    await app.register(identity, { region: 'eu' })
    await app.register(lifecycle, { signals: false })
    await app.register(health, { eventLoop: false, maxStuckMs: 3_600_000 })
    await app.register(loadBalancer)
    app.health.add('store', () => false)
    await app.listen({ port: 0, host: '127.0.0.1' })
    await app.health.check()
    app.fleet.peers = () => [{ ...app.fleet.self(), zone: undefined, region: 'eu' }]
    const base = '/api/v1/load-balancer'
    const routes = [
      ...['/live', '/alive', '/ready', '/health', '/health/detailed'].map((path) => `GET ${path}`),
      ...['/health', '/instances', '/metrics', '/config'].map((path) => `GET ${base}${path}`),
      ...['/health-check', '/drain', '/undrain'].map((path) => `POST ${base}${path}`),
    ]
    assert.deepEqual([...schemas.keys()].sort(), routes.sort())
    for (const [route, { summary, tags, response }] of schemas) {
      const [method, url] = route.split(' ') as ['GET', string]
      const headers = method === 'GET' ? {} : { 'content-type': 'application/json' }
      const { statusCode, body } = await app.inject({ method, url, headers })
      const schema = response[statusCode]
      assert.ok(schema, `${route}: ${statusCode} is not documented`)
      assert.deepEqual(differences(schema, JSON.parse(body), route), [])
      assert.ok(summary.length > 10 && !summary.endsWith('.'), route)
      assert.deepEqual(tags, [url.startsWith(base) ? 'load balancer' : 'health'])
    }
    const summary = schemas.get('GET /health')?.response[200]
    assert.deepEqual(summary?.properties?.status?.enum, ['healthy', 'degraded', 'unhealthy'])
    const { checks } = schemas.get('GET /health/detailed')?.response[503]?.properties ?? {}
    const report = checks?.additionalProperties as Schema
    assert.deepEqual(report.properties?.status?.enum, ['up', 'degraded', 'down', 'pending'])
  })
})
