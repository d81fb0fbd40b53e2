import assert from 'node:assert/strict'
import { Socket } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { FleetError } from '../../../src/base/errors.ts'
import { Admission } from '../../../src/edge/http/admission.ts'
import { resolveProxyOptions } from '../../../src/edge/http/options.ts'
import { Origins } from '../../../src/edge/http/origins.ts'
import { Pools } from '../../../src/edge/http/pools.ts'
import { parse } from '../engine/requests.ts'
import type { Target } from '../engine/target.ts'

const origins = new Origins([], 'trustProxy')
const origin = origins.of(new Socket())
const { proxy: limits, pools, router } = resolveProxyOptions({ targets: [] })
const onePool = new Pools(pools, router)
const admission = new Admission(origins, { ...limits, block: ['/admin', '/api/v1/auth'] }, onePool)
const served = ['/admin', '/admin/*', '/api/v1/auth', '/api/v1/auth/*']

/** Fastify's routers, with each option that changes how a path is parsed. */
const apps: FastifyInstance[] = []
let routed: string

/**
 * No path that the proxy admits is routed to a blocked path by any of Fastify's routers, in any spelling. The proxy may
 * reject more than that.
 */
export default {
  seeds: [
    ...[
      '/admin',
      '/ADMIN/',
      '/%61dmin/x',
      '/admin%2fx',
      '//admin',
      '/./admin',
      '/x/../admin/y',
      '/admin;a=b',
      '/adm%69n?x#y',
    ],
    ...[
      '/api/v1/%61uth/login',
      '/api//v1/auth',
      '/api/v1/auth%3bx',
      '/api\\v1\\auth',
      '/%2561dmin',
      '/ad%C3%A9min',
      '/x;/admin',
    ],
  ],
  dictionary: [
    '%2f',
    '%2F',
    '%5c',
    '%61',
    '%2e',
    '%00',
    '%',
    '//',
    '/./',
    '/../',
    ';',
    '?',
    '#',
    '\\',
    'admin',
    'auth',
    '/',
  ],
  async prepare() {
    for (const routerOptions of [
      {},
      { caseSensitive: false },
      { ignoreTrailingSlash: true },
      { ignoreDuplicateSlashes: true },
      { useSemicolonDelimiter: true },
      { caseSensitive: false, ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, useSemicolonDelimiter: true },
    ]) {
      const app = Fastify({ frameworkErrors: () => {}, routerOptions: { ...routerOptions, maxParamLength: 1000 } })
      for (const url of [...served, '/*']) app.get(url, async () => 'not reached')
      // Only the route matters: the request goes no further.
      app.addHook('onRequest', ({ routeOptions }) => {
        routed = routeOptions.url ?? 'none'
      })
      await app.ready()
      apps.push(app)
    }
    return () => Promise.all(apps.splice(0).map((app) => app.close()))
  },
  run(input) {
    const text = input.toString('latin1').replace(/[^\x21-\x7e]/g, '')
    const outcomes: string[] = []
    parse(Buffer.from(`GET /${text} HTTP/1.1\r\nHost: a\r\n\r\n`), (request, response) => {
      const call = admission.admit(request, origin)
      if (call instanceof FleetError) {
        assert.ok(call.statusCode < 500)
        outcomes.push(call.code)
        return
      }
      const { path } = call.options
      const requested = request.url
      request.url = path
      for (const app of apps) {
        routed = 'none'
        app.routing(request, response)
        assert.ok(!served.includes(routed), `${requested} goes upstream as ${path}, which is routed to ${routed}`)
        outcomes.push(routed)
      }
    })
    return outcomes.join(' ')
  },
} satisfies Target
