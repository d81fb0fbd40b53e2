import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createProxy } from '../../src/edge/http/server.ts'
import { createTcpProxy } from '../../src/edge/tcp/index.ts'
import { freePort } from '../helpers/free-port.ts'
import { atEnd } from './at-end.ts'
import { Load, Replaceable, repeated } from './rolling.ts'

const overHttp = (targets: string[]) => createProxy({ targets, queue: { timeoutMs: 30_000 } })
/** A TCP proxy sees no responses, so only probes detect a drain; they must run before the listener closes. */
const overTcp = (targets: string[]) => createTcpProxy({ targets, probe: { intervalMs: 200 } })

// Replacements one after the other over HTTP are in rolling.test.ts.
describe('three real instances behind the proxy', () => {
  for (const [how, front, drainDelayMs] of [
    ['replaced all at once', overHttp, 0],
    ['replaced one after the other, on layer 4', overTcp, 1000],
  ] as const) {
    it(`${how}: no request is lost, and none runs twice`, async () => {
      const start = async () => new Replaceable(await freePort(), { DRAIN_DELAY: drainDelayMs }).start()
      const instances = await Promise.all([start(), start(), start()])
      const proxy = front(instances.map(({ url }) => url))
      atEnd(() => proxy.close())
      const load = new Load((await proxy.listen()).replace('tcp:', 'http:'), 'default')
      await load.more()
      if (how === 'replaced all at once') await Promise.all(instances.map((instance) => instance.replace('SIGTERM')))
      else {
        for (const instance of instances) {
          await instance.replace('SIGTERM')
          await load.more()
        }
      }
      await load.more()
      await load.stop()
      assert.deepEqual(load.failures, [])
      assert.deepEqual(repeated(instances), [])
    })
  }
})
