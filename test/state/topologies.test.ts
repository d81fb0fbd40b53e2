import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import identity from '../../src/instance/identity.ts'
import lifecycle from '../../src/instance/lifecycle/index.ts'
import jwt, { type JwtOptions } from '../../src/state/jwt/index.ts'
import locks from '../../src/state/locks/index.ts'
import redis, { type RedisOptions } from '../../src/state/redis/index.ts'
import registry from '../../src/state/registry/index.ts'
import { until } from '../helpers/until.ts'
import { code, contract as tokensContract } from './jwt/contract.ts'
import { aborted, contract as locksContract } from './locks/contract.ts'
import { patient, patientApp, within } from './redis/patience.ts'
import { type RedisCluster, type RedisSentinel, replicated, startCluster, startSentinel } from './topologies.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

/** An instance with tokens, registry and locks. */
async function start(
  where: RedisOptions,
  { id, name, listen = true, ...options }: JwtOptions & { id?: string; name?: string; listen?: boolean } = {},
): Promise<FastifyInstance> {
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(identity, { id, name })
  await app.register(lifecycle, { signals: false })
  await app.register(redis, { ...patient, ...where })
  await app.register(jwt, { secret: 'a secret of these tests, long enough for HS256', ...options })
  await app.register(registry, { leaseMs: 5000 })
  await app.register(locks, { closeGraceMs: 500 })
  if (listen) await app.listen({ host: '127.0.0.1', port: 0 })
  return app
}
const ids = (app: FastifyInstance): string =>
  app.fleet
    .peers()
    .map(({ id }) => id)
    .join()

describe('Cluster', () => {
  let cluster: RedisCluster
  let fleets = 0
  before(async () => {
    cluster = await startCluster()
  })
  const instance = (options: Parameters<typeof start>[1]): Promise<FastifyInstance> =>
    start({ cluster: cluster.nodes }, options)

  tokensContract('Cluster', (options, name) => instance({ ...options, name, listen: false }))
  locksContract('Cluster', (listen = true) => instance({ listen, name: `locks${++fleets}` }))

  test('a fleet shares its state', async () => {
    const [a, b] = await Promise.all(['a', 'b'].map((id) => instance({ id, name: 'together' })))
    assert.ok(a && b)
    await until(() => ids(a) === 'a,b' && ids(b) === 'a,b')
    const { accessToken, refreshToken } = await a.tokens.issue('ann')
    await b.tokens.verify(accessToken)
    await b.tokens.revoke(refreshToken)
    await within(1000, 'the logout', () =>
      a.tokens.verify(accessToken).then(() => false, code('FLEET_ERR_TOKEN_REVOKED')),
    )
    await a.fleet.command('b', 'drain')
    assert.equal(b.fleet.state, 'draining')
    const [first, second] = [await a.fleet.lock('x', (token) => token), await b.fleet.lock('x', (token) => token)]
    assert.ok(second > first)
    await b.close()
    await until(() => ids(a) === 'a')
  })
})

test('Sentinel: tokens, revocations, peers, locks and the leader survive the death of the primary', async () => {
  const { sentinels, primary }: RedisSentinel = await startSentinel()
  const both = await Promise.all(['a', 'b'].map((id) => start({ sentinels }, { id, name: 'failover' })))
  const [a, b] = both as [FastifyInstance, FastifyInstance]
  await until(() => both.every((app) => ids(app) === 'a,b'))
  const kept = await a.tokens.issue('ann')
  const ended = await a.tokens.issue('ann')
  await a.tokens.revoke(ended.accessToken)
  await b.tokens.verify(kept.accessToken)
  const before = await a.fleet.lock('x', (token) => token)
  let leading = 0
  for (const app of both)
    app.fleet.leader(
      'job',
      async (signal) => {
        assert.equal(++leading, 1)
        await aborted(signal)
        leading--
      },
      { ttlMs: 1000 },
    )
  await until(() => leading === 1)
  await replicated(primary)

  const seen = new Set<string>()
  let accepted = 0
  await primary.kill('SIGKILL')
  await until(() => {
    for (const app of both) seen.add(ids(app))
    return a.tokens.refresh(kept.refreshToken).then(() => true)
  })
  await until(() => both.every((app) => app.fleet.facts.registry === 'live'))
  for (const app of both) {
    seen.add(ids(app))
    await until(() => app.tokens.verify(kept.accessToken))
    // The connection to the new primary may fail once more. The token must not be accepted meanwhile either.
    await until(() => app.tokens.verify(ended.accessToken).then(() => ++accepted, code('FLEET_ERR_TOKEN_REVOKED')))
  }
  assert.equal(accepted, 0)
  assert.deepEqual([...seen], ['a,b'])
  assert.ok((await until(() => b.fleet.lock('x', (token) => token))) > before)
  await until(() => leading === 1)
  await until(() => a.tokens.revoke(kept.accessToken).then(() => true))
  await until(() => b.tokens.verify(kept.accessToken).then(() => false, code('FLEET_ERR_TOKEN_REVOKED')))
})
