import { createHash } from 'node:crypto'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { FleetError } from '../base/errors.ts'
import { either, int, oneOf, path, resolveOptions, type Shapes } from '../base/options.ts'
import { lifecycle } from '../instance/lifecycle.ts'
import { operators, operatorsOnly } from '../instance/operators.ts'
import { ownRoute } from '../instance/own-routes.ts'
import { page } from './page.ts'
import { script } from './script.ts'
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

/** The page may do what it does, and nothing else: its own script and style by their hashes, its own origin, no frame. */
const policy: string = [
  "default-src 'none'",
  `script-src ${hash(script)}`,
  `style-src ${hash(style)}`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

const commandBody = {
  type: 'object',
  required: ['instance'],
  properties: { instance: { type: 'string', minLength: 1, maxLength: 128 } },
} as const

const plugin: FastifyPluginAsync<DashboardOptions> = async (app, given) => {
  if (!app.hasPlugin('fleet-lifecycle')) await app.register(lifecycle)
  if (!app.hasDecorator('isOperator')) await app.register(operators)
  const options = resolveOptions<Required<DashboardOptions>>('dashboard', shapes, defaults, given)
  const root = options.path
  if (root === false) return
  const { fleet } = app
  const html = page({ fleet: fleet.name, root, refreshMs: options.refreshMs, script, style })
  const route = {
    ...ownRoute,
    onRequest: operatorsOnly(app),
    logLevel: 'silent',
    config: { rateLimit: false, probe: true },
  } as const

  app.get(root, route, (_request, reply) =>
    reply
      .headers({ 'Content-Security-Policy': policy, 'Referrer-Policy': 'no-referrer', 'Cache-Control': 'no-store' })
      .type('text/html; charset=utf-8')
      .send(html),
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
