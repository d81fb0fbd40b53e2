import assert from 'node:assert/strict'
import Fastify, { type FastifyInstance } from 'fastify'
import { beneath, canonicalPath } from '../../../src/edge/paths.ts'
import { parse } from '../engine/requests.ts'
import type { Target } from '../engine/target.ts'

const blocked = beneath(['/admin', '/api/v1/auth'])
const served = ['/admin', '/admin/*', '/api/v1/auth', '/api/v1/auth/*']

/** Fastify's routers, with each option that changes how a path is read. */
const apps: FastifyInstance[] = []
let routed: string

/**
 * A path that a router takes for one beneath a blocked prefix is one to the proxy too, however it is written. The proxy
 * may block or reject more than that.
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
      // Which route it is, is all that matters: the request goes no further.
      app.addHook('onRequest', ({ routeOptions }) => {
        routed = routeOptions.url ?? 'none'
      })
      await app.ready()
      apps.push(app)
    }
    return () => Promise.all(apps.splice(0).map((app) => app.close()))
  },
  run(input) {
    const url = `/${input.toString('latin1').replace(/[^\x21-\x7e]/g, '')}`
    const path = canonicalPath(url)
    if (path !== undefined) assert.equal(canonicalPath(encodeURI(path)), path, 'the canonical form is its own')
    const isBlocked = path === undefined || blocked(path)
    const routes: string[] = []
    parse(Buffer.from(`GET ${url} HTTP/1.1\r\nHost: a\r\n\r\n`), (request, response) => {
      for (const app of apps) {
        routed = 'none'
        app.routing(request, response)
        routes.push(routed)
      }
    })
    const wrong = isBlocked ? undefined : routes.find((one) => served.includes(one))
    assert.equal(wrong, undefined, `${url} is routed to ${wrong}, but is ${path} to the proxy`)
    return `${isBlocked} ${routes.join(' ')}`
  },
} satisfies Target
