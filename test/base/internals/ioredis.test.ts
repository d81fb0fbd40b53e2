import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as ioredis from 'ioredis'
import { canIntercept } from '../../../src/base/internals/ioredis.ts'
import { connect } from '../../../src/state/redis/client.ts'
import { startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { within } from '../../helpers/within.ts'

test('can intercept the installed ioredis', () => {
  assert.equal(canIntercept(ioredis), true)
})

test('detects an ioredis whose commands have changed', () => {
  const Changed = class {
    promise = Promise.resolve()
  } as unknown as typeof ioredis.Command
  assert.equal(canIntercept({ ...ioredis, Command: Changed }), false)
  assert.equal(canIntercept({} as typeof ioredis), false)
})

test('falls back to the timeouts of ioredis, which end every command of a suspended server', async () => {
  const server = await startRedis()
  const opened = connect({ url: server.url, commandTimeoutMs: 200 }, () => false)
  assert.ok(opened)
  const { client } = opened
  client.on('error', () => {})
  // On a busy machine a reply may come after the timeout.
  const responds = (): Promise<boolean> =>
    client.ping().then(
      (reply) => reply === 'PONG',
      () => false,
    )
  await until(responds, { what: 'a reply' })
  await server.kill('SIGSTOP')
  let failed = 0
  for (let i = 0; i < 20; i++) client.get('k').catch(() => failed++)
  await within(1000, 'the timeouts', () => failed === 20)
  await server.kill('SIGCONT')
  await until(responds, { what: 'a reply' })
  client.disconnect()
})
