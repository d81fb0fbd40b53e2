import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { SessionStore } from '@fastify/session'
import { CustomStoreBackend, FleetStore, outageError } from '../../../src/state/session/adapters.ts'
import { MemoryRecordStore } from '../../../src/state/session/memory-store.ts'

type Done = (error?: unknown, result?: unknown) => void

/** A store whose methods call back with what the test says, at once or a turn later. */
function open(error: unknown, result?: unknown, isSlow = false) {
  const calls: unknown[][] = []
  const reply = (...args: unknown[]): void => {
    const done = args.pop() as Done
    calls.push(args)
    if (isSlow) void turn().then(() => done(error, result))
    else done(error, result)
  }
  const store = {
    get: (...args: unknown[]) => reply('get', ...args),
    set: (...args: unknown[]) => reply('set', ...args),
    destroy: (...args: unknown[]) => reply('destroy', ...args),
  }
  const mapped = (cause: unknown): Error => new Error('mapped', { cause })
  const backend = new CustomStoreBackend(store as unknown as SessionStore, mapped, 100)
  return { backend, calls }
}
const session = { cookie: { originalMaxAge: 5, expires: null }, a: [1] }

for (const isSlow of [false, true])
  describe(`a custom store that is ${isSlow ? 'asynchronous' : 'synchronous'}`, () => {
    const outcome = async (work: () => unknown): Promise<unknown> => {
      try {
        const value = work()
        assert.equal(value instanceof Promise, isSlow)
        return await value
      } catch (error) {
        return error
      }
    }

    test('loads, saves and ends sessions, and counts them', async () => {
      const { backend, calls } = open(null, session, isSlow)
      const loaded = await outcome(() => backend.load('s'))
      assert.deepEqual(loaded, { id: 's', data: session, cookie: session.cookie, baseline: '[["a",[1]]]' })
      await outcome(() => backend.create('s', session))
      assert.equal(await outcome(() => backend.update('s', session)), true)
      await outcome(() => backend.destroy('s'))
      assert.deepEqual(calls, [
        ['get', 's'],
        ['set', 's', session],
        ['set', 's', session],
        ['destroy', 's'],
      ])
      assert.deepEqual({ ...backend.counts }, { created: 1, loaded: 1, saved: 1, destroyed: 1 })
    })

    test('has no session if it calls back with none, or with ENOENT', async () => {
      const missing = Object.assign(new Error('no file'), { code: 'ENOENT' })
      for (const [error, result] of [[null, null], [undefined, undefined], [missing]]) {
        const { backend } = open(error, result, isSlow)
        assert.equal(await outcome(() => backend.load('s')), undefined)
        assert.equal(backend.counts.loaded, 0)
      }
      const { backend } = open(missing, undefined, isSlow)
      for (const work of [() => backend.create('s', session), () => backend.destroy('s')])
        assert.equal(((await outcome(work)) as Error).cause, missing, 'of a write it is an error')
    })

    test('passes its errors on, mapped, and counts nothing', async () => {
      const cause = new Error('no')
      const { backend } = open(cause, session, isSlow)
      for (const work of [
        () => backend.load('s'),
        () => backend.create('s', session),
        () => backend.update('s', session),
        () => backend.destroy('s'),
      ]) {
        const error = (await outcome(work)) as Error
        assert.deepEqual([error.message, error.cause], ['mapped', cause])
      }
      // A rejection without a handler would fail this file.
      await turn()
      assert.deepEqual({ ...backend.counts }, { created: 0, loaded: 0, saved: 0, destroyed: 0 })
    })
  })

test('a custom store compares the data without the cookie', () => {
  const { backend } = open(null)
  assert.equal(backend.snapshot({ cookie: {}, a: 1, b: [2] }), '[["a",1],["b",[2]]]')
  assert.deepEqual([backend.isChanged('[]', '[]'), backend.isChanged('[]', '[1]')], [false, true])
  assert.equal(backend.rewritesOnSave, true)
})

describe('an error of a custom store', () => {
  const outage = (message: string, more: object = {}): unknown => {
    const error = Object.assign(new Error(message), more)
    const found = outageError(error) as { code?: string; cause?: unknown }
    if (found === error) return 'itself'
    assert.equal(found.cause, error)
    return found.code
  }
  const [down, full] = ['FLEET_ERR_STATE_UNAVAILABLE', 'FLEET_ERR_STATE_FULL']

  test('is an outage if the connection is lost, or the server replies with an error', () => {
    for (const code of ['ECONNREFUSED', 'EPIPE']) assert.equal(outage('x', { code }), down)
    assert.equal(outage('OOM command not allowed'), full)
    for (const text of ['ERR syntax', '-ERR syntax', 'READONLY x', 'LOADING x', 'CLUSTERDOWN x', 'MOVED 1 x'])
      assert.equal(outage(text), down, text)
    for (const text of ['Connection is closed.', 'Command timed out', 'request timeout', "Stream isn't writeable"])
      assert.equal(outage(text), down, text)
    assert.equal(outage('x', { name: 'MongoTopologyClosedError' }), down)
  })

  test('of node-redis is an outage by its message or its class', () => {
    assert.equal(outage('The client is offline'), down)
    class TimeoutError extends Error {}
    assert.equal((outageError(new TimeoutError()) as { code?: string }).code, down)
  })

  test('is passed on otherwise', () => {
    for (const text of ['duplicate index', 'ERROR x', 'an ERR x', 'ERR', 'OOMPH x'])
      assert.equal(outage(text), 'itself')
    for (const code of ['E_CUSTOM', 11000, 'FST_ERR', 'ECONN1']) assert.equal(outage('x', { code }), 'itself')
  })
})

describe('FleetStore', () => {
  /** The time to live that a store gives to a session, in ms. */
  const lifeOf = (ttl: number | undefined, cookie: object | undefined): unknown => {
    const lives: number[] = []
    const engine = new MemoryRecordStore()
    engine.write = (_id, _text, ttlMs) => void lives.push(ttlMs)
    const store = new FleetStore({ client: null, engine, ...(ttl && { ttl }) })
    store.set('s', { cookie } as never)
    return lives[0]
  }

  test('keeps a session for `ttl` seconds, or as long as its cookie', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: 1_000_000 })
    assert.equal(lifeOf(undefined, undefined), 86_400_000)
    assert.equal(lifeOf(60, { originalMaxAge: null }), 60_000)
    assert.equal(lifeOf(60, { expires: new Date(1_005_000) }), 5_000)
    assert.equal(lifeOf(60, { toJSON: () => ({ expires: new Date(1_007_000) }), expires: null }), 7_000)
  })

  test('returns a copy, with the time at which the cookie expires as a date', async () => {
    const store = new FleetStore({ client: null })
    const get = (id: string): Promise<Record<string, unknown> | null | undefined> =>
      new Promise((resolve, reject) =>
        store.get(id, (error, found) => (error ? reject(error) : resolve(found as never))),
      )
    const expires = new Date(Date.now() + 60_000)
    store.set('s', { cookie: { originalMaxAge: 60_000, expires, sameSite: 'lax' }, a: { b: 1 } } as never)
    assert.deepEqual(await get('s'), { cookie: { originalMaxAge: 60_000, expires, sameSite: 'lax' }, a: { b: 1 } })
    assert.equal(await get('t'), null)
    const failing = new MemoryRecordStore()
    failing.read = () => {
      throw new Error('no')
    }
    const broken = new FleetStore({ client: null, engine: failing })
    await new Promise<void>((resolve) => broken.get('s', (error) => resolve(assert.match(String(error), /no/))))
  })
})
