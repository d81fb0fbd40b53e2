import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { FleetError, type FleetErrorCode } from '../../../src/base/errors.ts'
import { until } from '../../helpers/until.ts'

export const code = (expected: FleetErrorCode) => (error: unknown) =>
  error instanceof FleetError && error.code === expected

/** A promise that the test resolves. */
export const gate = (): PromiseWithResolvers<void> => Promise.withResolvers<void>()
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })

/** The contract of `app.fleet.lock()` and `app.fleet.leader()` with every store. */
export function contract(engine: string, start: (listen?: boolean) => Promise<FastifyInstance>): void {
  describe(`locks in ${engine}`, () => {
    test('allows one holder at a time, in order of arrival, with rising tokens', async () => {
      const { fleet } = await start()
      const order: number[] = []
      const tokens: number[] = []
      let inside = 0
      await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          fleet.lock('a', async (token) => {
            assert.equal(++inside, 1)
            order.push(i)
            tokens.push(token)
            await turn()
            inside--
          }),
        ),
      )
      assert.deepEqual(order, [...Array(20).keys()])
      assert.ok(tokens.every((token, i) => Number.isSafeInteger(token) && token > (tokens[i - 1] ?? 0)))
    })

    test('resolves and rejects like the function, and releases the lock', async () => {
      const { fleet } = await start()
      assert.equal(await fleet.lock('a', () => 7), 7)
      await assert.rejects(
        fleet.lock('a', () => {
          throw new RangeError('mine')
        }),
        RangeError,
      )
      await assert.rejects(
        fleet.lock('a', async () => Promise.reject(new RangeError('mine'))),
        RangeError,
      )
      assert.equal(await fleet.lock('a', async () => 8, { waitMs: 0 }), 8)
    })

    test('locks of other names do not wait', async () => {
      const { fleet } = await start()
      const nest = (names: string[]): Promise<number> =>
        names.length === 0
          ? Promise.resolve(1)
          : fleet.lock(names[0] as string, () => nest(names.slice(1)), { waitMs: 0 })
      assert.equal(await nest(['a', 'b', '}{', '{a}', 'a b\n', 'ünï', 'lock a', 'leader a', '__proto__']), 1)
    })

    test('rejects after `waitMs`', async () => {
      const { fleet } = await start()
      const { promise, resolve } = gate()
      const first = fleet.lock('a', () => promise)
      await assert.rejects(
        fleet.lock('a', () => 1, { waitMs: 0 }),
        code('FLEET_ERR_LOCK_BUSY'),
      )
      await assert.rejects(
        fleet.lock('a', () => 1, { waitMs: 30 }),
        code('FLEET_ERR_LOCK_BUSY'),
      )
      const patient = fleet.lock('a', () => 2)
      resolve()
      assert.equal(await patient, 2)
      await first
    })

    test('renews a lock for longer than its ttlMs', async () => {
      const { fleet } = await start()
      const since = performance.now()
      const held = fleet.lock('a', (_, signal) => until(() => signal.aborted || performance.now() - since > 4500), {
        ttlMs: 4000,
      })
      await assert.rejects(
        fleet.lock('a', () => 1, { waitMs: 4200 }),
        code('FLEET_ERR_LOCK_BUSY'),
      )
      await held
    })

    test('rejects invalid names and options', async () => {
      const { fleet } = await start()
      for (const name of ['', 'x'.repeat(513), '\ud800', 7, undefined])
        await assert.rejects(
          fleet.lock(name as string, () => 1),
          code('FLEET_ERR_OPTION_INVALID'),
        )
      for (const options of [{ ttlMs: 5 }, { ttlMs: '1s' }, { waitMs: -1 }])
        await assert.rejects(
          fleet.lock('a', () => 1, options as never),
          code('FLEET_ERR_OPTION_INVALID'),
        )
      await assert.rejects(
        fleet.lock('a', () => 1, { retry: 1 } as never),
        code('FLEET_ERR_OPTION_UNKNOWN'),
      )
      assert.throws(() => fleet.leader('', () => 1), code('FLEET_ERR_OPTION_INVALID'))
      await assert.rejects(
        fleet.lock('a', () => 1, { ttl: 1000 } as never),
        /`lock\.ttl` is now `ttlMs`/,
      )
      assert.throws(() => fleet.leader('a', () => 1, { ttl: 1000 } as never), /`leader\.ttl` is now `ttlMs`/)
    })

    test('close() aborts the holder and waits for it', async () => {
      const app = await start()
      const inside = gate()
      let ended = false
      const held = app.fleet.lock('a', async (_, signal) => {
        inside.resolve()
        await aborted(signal)
        await turn()
        ended = true
        return 'done'
      })
      await inside.promise
      await app.close()
      assert.equal(ended, true)
      assert.equal(await held, 'done')
    })

    test('an instance leads until it is stopped, even if the function has returned', async () => {
      const app = await start()
      let signal: AbortSignal | undefined
      const job = app.fleet.leader('job', (given) => {
        signal = given
      })
      await until(() => job.leading)
      await turn()
      assert.equal(signal?.aborted, false)
      await job.stop()
      assert.equal(signal?.aborted, true)
      assert.equal(job.leading, false)
    })

    test('an instance stops leading when it drains and leads again when it serves', async () => {
      const app = await start()
      let runs = 0
      let running = 0
      const job = app.fleet.leader('job', async (signal) => {
        runs++
        running++
        await aborted(signal)
        running--
      })
      await until(() => running === 1)
      app.fleet.drain()
      await until(() => running === 0)
      assert.equal(job.leading, false)
      app.fleet.undrain()
      await until(() => running === 1)
      assert.equal(runs, 2)
      await app.close()
      assert.equal(running, 0)
    })

    test('runs a failed job again after a pause', async () => {
      const app = await start()
      const at: number[] = []
      app.fleet.leader('job', () => {
        at.push(performance.now())
        throw new Error('not yet')
      })
      await until(() => at.length === 2)
      assert.ok((at[1] as number) - (at[0] as number) >= 499)
    })

    test('no instance leads before it is ready; an app that never listens leads too', async () => {
      const app = await start(false)
      let leads = false
      app.fleet.leader('job', () => {
        leads = true
      })
      await turn()
      assert.equal(leads, false)
      await app.ready()
      await until(() => leads)
    })

    test('one instance can lead several jobs', async () => {
      const app = await start()
      const jobs = ['a', 'b', 'c'].map((name) => app.fleet.leader(name, () => {}))
      await until(() => jobs.every((job) => job.leading))
      assert.equal(await app.fleet.lock('a', () => 1, { waitMs: 0 }), 1)
    })

    test('a job that ignores its signal does not block close() for ever', async () => {
      const app = await start()
      const job = app.fleet.leader('job', () => new Promise(() => {}))
      await until(() => job.leading)
      await app.close()
      assert.equal(job.leading, false)
    })
  })
}
