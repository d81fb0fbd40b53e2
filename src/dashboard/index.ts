// The dashboard: a page for operators that lists the fleet's instances and drains them.
//   index.ts           the routes: the page, its data (`/state`, polled by the page), and the drain commands
//   pages.ts           builds the pages from `assets/`, with inlined scripts and a Content-Security-Policy that allows only these
//   sign-in-routes.ts  exchanges the operators' token for a cookie
//   assets/            HTML, CSS and the scripts that run in the browser
// It holds no data of its own: instances and commands are those of `app.fleet` (src/state/registry).
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { ensure } from '../base/ensure.ts'
import { FleetError } from '../base/errors.ts'
import { either, int, type OptionsOf, oneOf, path, resolveOptions } from '../base/options.ts'
import { fleetPlugin, hasOwnRoute } from '../instance/compat/index.ts'
import { lifecycle } from '../instance/lifecycle/index.ts'
import { operators, operatorsOnly } from '../instance/operators/index.ts'
import { acceptSmallJson, operatorsConfig, ownRoute } from '../instance/own-routes.ts'
import { dashboardPage, type Page, signInPage } from './pages.ts'
import { asksForPage, sessionRoutes } from './sign-in-routes.ts'

/** @internal */
export const dashboardOptions = {
  /** Path of the page; `false` disables it. */
  path: either(oneOf(false), path).default('/fleet'),
  /** Interval at which the page polls the fleet. */
  refreshMs: int(250, 60_000, 'milliseconds').default(2_000),
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
  const { path: root, refreshMs } = resolveOptions('dashboard', dashboardOptions, given)
  if (root !== false && !hasOwnRoute(app, 'GET', root))
    await app.register(async (scope) => routes(scope, root, refreshMs))
}

const tags = ['dashboard']

function routes(app: FastifyInstance, root: string, refreshMs: number): void {
  const { fleet } = app
  const { signIn } = app.operators
  const parts = { fleet: fleet.name, root, refreshMs }
  const page = dashboardPage({ ...parts, signedIn: false })
  const signedInPage = dashboardPage({ ...parts, signedIn: true })
  const pageForSignIn = signInPage(root)
  const access = { onRequest: operatorsOnly(app), logLevel: 'silent', config: operatorsConfig } as const
  const route = (summary: string) => ({ ...ownRoute({ summary, tags }), ...access }) as const
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
  app.get(`${root}/state`, route('Every instance, for the dashboard'), async (_request, reply) => {
    reply.header('Cache-Control', 'no-store')
    return { answeredBy: fleet.instance.id, instances: await fleet.survey() }
  })

  for (const [name, summary] of [
    ['drain', 'Takes an instance out of rotation'],
    ['undrain', 'Returns an instance to rotation'],
  ] as const) {
    app.post<{ Body: { instance: string } }>(
      `${root}/${name}`,
      { ...ownRoute({ summary, tags, body: commandBody }), ...access, logLevel: 'info' },
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
