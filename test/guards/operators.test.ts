import assert from 'node:assert/strict'
import { test } from 'node:test'
import Fastify, { type RouteOptions } from 'fastify'
import { fleet } from '../../src/fleet.ts'

const token = 'an-operator-token-of-more-than-32-bytes'

/** Routes of this package for the application's clients; `*` is for CORS preflights. */
const forClients = ['*', '/.well-known/jwks.json', '/api/v1/geo/endpoint']
/** Exchange a secret for access: useless without it. */
const signIn = '/fleet/session'

test('every route of this package is a probe, for clients, or closed to non-operators and other sites', async (t) => {
  const app = Fastify()
  t.after(() => app.close())
  const routes: RouteOptions[] = []
  app.addHook('onRoute', (route) => void routes.push(route))
  await app.register(fleet, { lifecycle: { signals: false }, redis: { client: null }, operators: { token } })
  await app.ready()
  assert.ok(routes.length > 15)

  const status = async (method: string, url: string, headers: Record<string, string>): Promise<number> => {
    const payload = headers['content-type'] ? '{}' : undefined
    return (await app.inject({ method: method as 'GET', url, headers: { host: 'localhost', ...headers }, payload }))
      .statusCode
  }
  const bearer = { authorization: `Bearer ${token}` }
  const json = { 'content-type': 'application/json' }
  for (const { method, url, config, schema } of routes) {
    const audience = config?.audience
    // `*` belongs to @fastify/cors.
    if (url !== '*')
      assert.equal(
        (schema as { hide?: boolean } | undefined)?.hide,
        true,
        `${url} is hidden from the documentation of the application`,
      )
    if (forClients.includes(url)) continue
    assert.ok(audience, `${url} states in \`config.audience\` which listener serves it`)
    for (const one of [method].flat()) {
      if (audience === 'probes') {
        assert.ok(['GET', 'HEAD'].includes(one), `${one} ${url}: a probe changes nothing`)
        continue
      }
      const isChange = !['GET', 'HEAD'].includes(one)
      if (url !== signIn) {
        assert.equal(await status(one, url, isChange ? json : {}), 404, `${one} ${url} without a credential`)
        assert.notEqual(await status(one, url, { ...bearer, ...(isChange ? json : {}) }), 403, `${one} ${url}`)
      }
      if (!isChange) continue
      assert.equal(await status(one, url, bearer), 403, `${one} ${url} without a proof`)
      for (const foreign of [{ origin: 'https://evil.example' }, { 'sec-fetch-site': 'cross-site' }] as Record<
        string,
        string
      >[]) {
        assert.equal(await status(one, url, { ...bearer, ...json, ...foreign }), 403, `${one} ${url} from another site`)
      }
    }
  }
})
