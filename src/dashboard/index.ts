import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { FleetError } from '../base/errors.ts'
import { either, int, oneOf, path, resolveOptions, type Shapes } from '../base/options.ts'
import { lifecycle } from '../instance/lifecycle/index.ts'
import { operators, operatorsOnly } from '../instance/operators/index.ts'
import { operatorsConfig, ownRoute, takeSmallJson } from '../instance/own-routes.ts'
import { page } from './page.ts'
import { script } from './script.ts'
import { asksForPage, sessionRoutes } from './sign-in.ts'
import { signInPage, signInScript } from './sign-in-page.ts'
import { style } from './style.ts'

export interface DashboardOptions {
  /** Where the page is; `false` switches it off. @default '/fleet' */
  path?: string | false
  /** Pause between two looks at the fleet, 250 to 60,000 ms. @default 2000 */
  refreshMs?: number
}

const shapes: Shapes = { path: either(oneOf(false), path), refreshMs: int(250, 60_000, 'milliseconds') }
const defaults = { path: '/fleet', refreshMs: 2_000 } satisfies DashboardOptions

const hash = (source: string): string => `'sha256-${createHash('sha256').update(source).digest('base64')}'`

/** A page may do what it does, and nothing else: its own script and style by their hashes, its own origin, no frame. */
const policy = (source: string): string =>
  [
    "default-src 'none'",
    `script-src ${hash(source)}`,
    `style-src ${hash(style)}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
const pagePolicy = policy(script)
const signInPolicy = policy(signInScript)

const sendPage = (reply: FastifyReply, html: string, contentSecurityPolicy: string): FastifyReply =>
  reply
    .headers({
      'Content-Security-Policy': contentSecurityPolicy,
      'Referrer-Policy': 'no-referrer',
      'Cache-Control': 'no-store',
    })
    .type('text/html; charset=utf-8')
    .send(html)

const commandBody = {
  type: 'object',
  required: ['instance'],
  properties: { instance: { type: 'string', minLength: 1, maxLength: 128 } },
} as const

const plugin: FastifyPluginAsync<DashboardOptions> = async (app, given) => {
  if (!app.hasPlugin('fleet-lifecycle')) await app.register(lifecycle)
  if (!app.hasDecorator('isOperator')) await app.register(operators)
  const options = resolveOptions<Required<DashboardOptions>>('dashboard', shapes, defaults, given)
  const { path: root, refreshMs } = options
  if (root === false) return
  await app.register(async (scope) => routes(scope, root, refreshMs))
}

function routes(app: FastifyInstance, root: string, refreshMs: number): void {
  const { fleet } = app
  const { signIn } = app.operators
  const parts = { fleet: fleet.name, root, refreshMs, script, style }
  const html = page({ ...parts, signedIn: false })
  const signedInHtml = page({ ...parts, signedIn: true })
  const signInHtml = signInPage({ root, script: signInScript, style })
  const route = { ...ownRoute, onRequest: operatorsOnly(app), logLevel: 'silent', config: operatorsConfig } as const
  takeSmallJson(app)
  if (signIn) {
    signIn.addPath(app.prefix + root)
    sessionRoutes(app, root, { ...ownRoute, config: operatorsConfig }, signIn)
  }

  /** A browser that is not signed in gets the sign-in; everyone else without access the 404 of an unknown path. */
  const operatorOrSignIn = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    if (app.isOperator(request)) done()
    else if (asksForPage(request) && app.operators.offersSignIn(request)) {
      sendPage(reply.code(401).header('WWW-Authenticate', 'Bearer'), signInHtml, signInPolicy)
    } else reply.callNotFound()
  }
  app.get(root, { ...route, onRequest: operatorOrSignIn }, (request, reply) =>
    sendPage(reply, app.operators.credentialOf(request) === 'session' ? signedInHtml : html, pagePolicy),
  )
  app.get(`${root}/state`, route, async (_request, reply) => {
    reply.header('Cache-Control', 'no-store')
    return { answeredBy: fleet.instance.id, instances: await fleet.survey() }
  })

  for (const name of ['drain', 'undrain'] as const) {
    app.post<{ Body: { instance: string } }>(
      `${root}/${name}`,
      { ...route, logLevel: 'info', schema: { body: commandBody } },
      async ({ body: { instance } }, reply) => {
        if (!fleet.peers().some(({ id }) => id === instance)) {
          throw new FleetError('FLEET_ERR_INSTANCE_UNKNOWN', `no instance ${JSON.stringify(instance)} in this fleet`)
        }
        if (instance === fleet.instance.id) fleet[name]()
        else await fleet.command(instance, name)
        return reply.code(202).header('Cache-Control', 'no-store').send()
      },
    )
  }
}

/** A page for operators: every instance of the fleet live, and a switch for each. */
export const dashboard: FastifyPluginAsync<DashboardOptions> = fp(plugin, { name: 'fleet-dashboard', fastify: '5.x' })
export default dashboard
