import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import Fastify from 'fastify'
import { identity } from '../../../src/instance/identity.ts'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { Candidate } from '../../../src/state/locks/election.ts'
import { locks } from '../../../src/state/locks/index.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { until } from '../../helpers/until.ts'

test('candidates of a job try again when its leader on another instance ends, and all when this one drains, until they stop', async (t) => {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(identity, { name: 'shop', id: 'me' })
  await app.register(lifecycle, { signals: false })
  await app.register(redis, { client: null })
  await app.register(locks)
  const [a, b] = ['a', 'b'].map((job) => app.fleet.leader(job, () => {}))
  await turn()
  assert.deepEqual([a?.leading, b?.leading], [false, false], 'not before the app is ready')
  await app.listen({ port: 0, host: '127.0.0.1' })
  await until(() => a?.leading && b?.leading)
  assert.equal(await app.fleet.lock('a', () => 'free', { waitMs: 0 }), 'free', 'a lock of the same name')
  const again: unknown[] = []
  const { reconsider } = Candidate.prototype
  t.mock.method(Candidate.prototype, 'reconsider', function (this: Candidate) {
    again.push(this)
    reconsider.call(this)
  })
  const told = async (name: string, by: string): Promise<unknown[]> => {
    await app.fleet.publish('fleet:leader', { name, by })
    await turn()
    await turn()
    return again.splice(0)
  }
  assert.deepEqual(await told('leader a', 'other'), [a])
  assert.deepEqual(await told('leader b', 'me'), [], 'its own announcement')
  assert.deepEqual(await told('leader c', 'other'), [])
  app.fleet.drain()
  assert.deepEqual(again.splice(0), [a, b])
  assert.deepEqual([a?.leading, b?.leading], [false, false])
  app.fleet.undrain()
  await until(() => a?.leading && b?.leading)
  for (const candidate of [a, b]) await candidate?.stop()
  again.length = 0
  for (const name of ['leader a', 'leader b'])
    assert.deepEqual(await told(name, 'other'), [], 'it has left the election')
})
