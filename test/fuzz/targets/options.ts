import assert from 'node:assert/strict'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import { FleetError } from '../../../src/base/errors.ts'
import { dashboard } from '../../../src/dashboard/index.ts'
import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import { fleet } from '../../../src/fleet.ts'
import { geo } from '../../../src/geo/index.ts'
import { loadBalancer } from '../../../src/instance/admin-api.ts'
import { headers } from '../../../src/instance/headers.ts'
import { health } from '../../../src/instance/health/index.ts'
import { identity } from '../../../src/instance/identity.ts'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { metrics } from '../../../src/instance/metrics/index.ts'
import { operators } from '../../../src/instance/operators/index.ts'
import { overload } from '../../../src/instance/overload/index.ts'
import { broadcast } from '../../../src/state/broadcast/index.ts'
import { cache } from '../../../src/state/cache/index.ts'
import { idempotency } from '../../../src/state/idempotency/index.ts'
import { jwt } from '../../../src/state/jwt/index.ts'
import { locks } from '../../../src/state/locks/index.ts'
import { rateLimit } from '../../../src/state/rate-limit/index.ts'
import { registry } from '../../../src/state/registry/index.ts'
import { session } from '../../../src/state/session/index.ts'
import { Choices } from '../engine/choices.ts'
import type { Target } from '../engine/target.ts'

/** The plugins by name, in the order of `fleet.ts`. `redis` and `agentCheck` would open connections. */
const plugins: Readonly<Record<string, FastifyPluginAsync<never>>> = {
  ...{
    identity,
    lifecycle,
    operators,
    headers,
    overload,
    health,
    metrics,
    loadBalancer,
    geo,
    broadcast,
    registry,
    locks,
  },
  ...{ rateLimit, session, jwt, cache, idempotency, dashboard, fleet },
}
const names = [...Object.keys(plugins), 'balancer']
/** Read from the error for an unknown option, which lists them. */
const known = new Map<string, readonly string[]>()
/** Options with paths, addresses and files, which a valid value would make the plugin use. */
const withheld = new Set(['client', 'database', 'regions', 'discover', 'targets', 'agentCheck', 'redis', 'signals'])
const valid = [
  1,
  100,
  1000,
  true,
  false,
  'a',
  '/x',
  [],
  {},
  ['loopback'],
  'a secret that is long enough for all',
  () => 1,
]

async function tried(name: string, options: object): Promise<string> {
  const app: FastifyInstance = Fastify()
  try {
    if (name === 'balancer') {
      await new Balancer([], options).close()
      return 'accepted'
    }
    await app.register(plugins[name] as FastifyPluginAsync, options)
    await app.ready()
    return 'accepted'
  } catch (error) {
    if (!(error instanceof FleetError) && !isFastifys(error)) throw error
    assert.ok(error.message.length < 2000, error.message)
    return error instanceof FleetError ? `${error.code} ${error.message}` : error.code
  } finally {
    await app.close()
  }
}

/** Options of another package are validated by that package. */
const isFastifys = (error: unknown): error is Error & { code: string } =>
  /^FST_/.test(String((error as { code?: unknown }).code))

/** With any options a plugin starts, or rejects with a FleetError that names the option. */
export default {
  seeds: names.flatMap((_, i) => [
    `${String.fromCharCode(i)}\x01\x00\x05hello`,
    `${String.fromCharCode(i)}\x04\x01\x02\x03\x04\x05`,
  ]),
  maxBytes: 64,
  async prepare() {
    for (const name of names) {
      const message = await tried(name, { 'no such option': 1 })
      known.set(
        name,
        [...(message.split('; it has ')[1] ?? '').matchAll(/`([^`]+)`/g)].map((match) => match[1] as string),
      )
      assert.ok(message.startsWith('FLEET_ERR_OPTION_UNKNOWN'), `${name}: ${message}`)
    }
    return () => {}
  },
  async run(input) {
    const choices = new Choices(input)
    const name = choices.pick(names)
    const members = (known.get(name) ?? []).filter((member) => !withheld.has(member))
    // Own properties, also `__proto__`, as JSON.parse makes them.
    const options = new Map<string, unknown>()
    for (let turns = 1 + choices.below(3); turns > 0; turns--) {
      const member = choices.below(8) === 0 || members.length === 0 ? choices.name() : choices.pick(members)
      if (!withheld.has(member)) options.set(member, choices.below(3) === 0 ? choices.pick(valid) : choices.value())
    }
    return `${name} ${(await tried(name, Object.fromEntries(options))).slice(0, 100)}`
  },
} satisfies Target
