// The dashboard: a page for operators that shows the fleet's instances and their past, and drains them.
//   index.ts           the routes of the page and the drain commands
//   data-routes.ts     the page's data: `/state`, polled by the page, `/history`, `/events`, `/routes`, `/dependencies`
//   state.ts           the instances in `/state`, and which of them are gone
//   dependencies.ts    Redis and the checks of all instances
//   pages.ts           builds the pages from `assets/`, with inlined scripts and a Content-Security-Policy that allows only these
//   sign-in-routes.ts  exchanges the operators' token for a cookie
//   assets/            HTML, CSS and the scripts that run in the browser
// It holds no data of its own: instances and commands are those of `app.fleet` (src/state/registry), the past is kept by
// src/state/history.
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { ensure } from '../base/ensure.ts'
import { FleetError } from '../base/errors.ts'
import { bool, either, int, type OptionsOf, oneOf, path, resolveOptions } from '../base/options.ts'
import { fleetPlugin, hasOwnRoute } from '../instance/compat/index.ts'
import { lifecycle } from '../instance/lifecycle/index.ts'
import { operators, operatorsOnly } from '../instance/operators/index.ts'
import { acceptSmallJson, operatorsConfig, ownRoute } from '../instance/own-routes.ts'
import { history } from '../state/history/index.ts'
import { dataRoutes } from './data-routes.ts'
import { dashboardPage, type Page, signInPage, withSignOut } from './pages.ts'
import { asksForPage, sessionRoutes } from './sign-in-routes.ts'

/** @internal */
export const dashboardOptions = {
  /** Path of the page; `false` disables it. */
  path: either(oneOf(false), path).default('/fleet'),
  /** Interval at which the page polls the fleet. */
  refreshMs: int(250, 60_000, 'milliseconds').default(2_000),
  /** Whether this instance keeps figures and events for the dashboard, in Redis if there is one. */
  history: bool.default(true),
}
export type DashboardOptions = OptionsOf<typeof dashboardOptions>

const sendPage = (reply: FastifyReply, { html, policy }: Page): FastifyReply =>
  reply
    .headers({
      'Content-Security-Policy': policy,
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
  await ensure(app, lifecycle, operators)
  const { path: root, refreshMs, history: keepsHistory } = resolveOptions('dashboard', dashboardOptions, given)
  if (root === false || hasOwnRoute(app, 'GET', root)) return
  if (keepsHistory) await ensure(app, history)
  await app.register(async (scope) => routes(scope, root, refreshMs))
}

const tags = ['dashboard']

function routes(app: FastifyInstance, root: string, refreshMs: number): void {
  const { fleet } = app
  const { signIn } = app.operators
  const page = dashboardPage({ fleet: fleet.name, root, refreshMs })
  const signedInPage = withSignOut(page)
  const pageForSignIn = signInPage(root)
  const access = { onRequest: operatorsOnly(app), logLevel: 'silent', config: operatorsConfig } as const
  const route = (summary: string, schema: object = {}) =>
    ({ ...ownRoute({ summary, tags, ...schema }), ...access }) as const
  acceptSmallJson(app)
  if (signIn) {
    signIn.addPath(app.prefix + root)
    sessionRoutes(
      app,
      root,
      { ...ownRoute({ summary: 'Sign-in and sign-out of the dashboard', tags }), config: operatorsConfig },
      signIn,
    )
  }

  /** Browsers that are not signed in get the sign-in page, other clients without access the 404 of an unknown path. */
  const operatorOrSignIn = (request: FastifyRequest, reply: FastifyReply, done: () => void): void => {
    if (app.isOperator(request)) done()
    else if (asksForPage(request) && app.operators.offersSignIn(request)) {
      sendPage(reply.code(401).header('WWW-Authenticate', 'Bearer'), pageForSignIn)
    } else reply.callNotFound()
  }
  app.get(root, { ...route('The dashboard'), onRequest: operatorOrSignIn }, (request, reply) =>
    sendPage(reply, app.operators.credentialOf(request) === 'session' ? signedInPage : page),
  )
  dataRoutes(app, root, route)

  for (const [name, summary] of [
    ['drain', 'Takes an instance out of rotation'],
    ['undrain', 'Returns an instance to rotation'],
  ] as const) {
    app.post<{ Body: { instance: string } }>(
      `${root}/${name}`,
      { ...route(summary, { body: commandBody }), logLevel: 'info' },
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

/** A page for operators that shows every instance of the fleet and can drain it. */
export const dashboard: FastifyPluginAsync<DashboardOptions> = fleetPlugin('dashboard', plugin)
export default dashboard
