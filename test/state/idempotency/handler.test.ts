import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { first, IdempotencyHandler, type KeyedRequest } from '../../../src/state/idempotency/handler.ts'
import { MemoryIdempotencyStore } from '../../../src/state/idempotency/memory-store.ts'
import { fingerprint, keyOf, recordId } from '../../../src/state/idempotency/request.ts'
import type { IdempotencyStore } from '../../../src/state/idempotency/store.ts'
import { MemoryLimitStore } from '../../../src/state/rate-limit/memory-store.ts'
import { until } from '../../helpers/until.ts'
import { build, defaults } from './over-store.ts'

describe('the order of steps', () => {
  test('a response is sent after it is stored', async () => {
    const steps: string[] = []
    const stored = Promise.withResolvers<void>()
    class SlowStore extends MemoryIdempotencyStore {
      override async complete(...args: Parameters<IdempotencyStore['complete']>): Promise<boolean> {
        steps.push('storing')
        await stored.promise
        steps.push('stored')
        return super.complete(...args)
      }
    }
    const { post } = await build({}, new SlowStore())
    const response = post('a').then(() => steps.push('sent'))
    await until(() => steps.length > 0)
    // Every task that is ready runs before the next one. A response that did not wait would be sent meanwhile.
    for (let i = 0; i < 20; i++) await new Promise(setImmediate)
    assert.deepEqual(steps, ['storing'])
    const meanwhile = await post('a')
    assert.deepEqual([meanwhile.statusCode, meanwhile.headers['retry-after']], [409, '1'])
    assert.equal(meanwhile.json().code, 'FLEET_ERR_IDEMPOTENCY_IN_FLIGHT')
    stored.resolve()
    await response
    assert.deepEqual(steps, ['storing', 'stored', 'sent'])
  })

  test('a response that starts a session is stored for the session, and then without its body for the client', async (t) => {
    const stored: unknown[] = []
    class Recorded extends MemoryIdempotencyStore {
      override async complete(...args: Parameters<IdempotencyStore['complete']>): Promise<boolean> {
        const [id, , , response, ttlMs] = args
        stored.push([id, JSON.parse(response).body, ttlMs])
        return super.complete(...args)
      }
    }
    const handler = new IdempotencyHandler(new Recorded(), new MemoryLimitStore(), { ...defaults, lockMs: 1_000 })
    t.after(() => handler.close())
    const session = { sessionId: 's'.repeat(16) }
    const headers = { 'idempotency-key': 'a' }
    const socket = { remoteAddress: '10.0.0.1' }
    const request = { headers, session, socket, method: 'POST', url: '/', raw: {}, log: {} } as unknown as KeyedRequest
    const reply = { statusCode: 200, getHeaders: () => ({}), getHeader: () => `sid=${session.sessionId}` } as never
    await handler.begin(request, reply, { required: false, ttlMs: 60_000, onOutage: 'reject' })
    const { id } = request[first] as { id: string }
    await handler.end(request, reply, 'welcome')
    const [[later]] = stored as [[string]]
    assert.notEqual(later, id)
    assert.deepEqual(stored, [
      [later, 'welcome', 60_000],
      [id, undefined, 60_000],
    ])
  })

  test('a key is released before a failed response is sent', async () => {
    const steps: string[] = []
    const released = Promise.withResolvers<void>()
    class SlowStore extends MemoryIdempotencyStore {
      override async release(...args: Parameters<IdempotencyStore['release']>): Promise<void> {
        steps.push('releasing')
        await released.promise
        return super.release(...args)
      }
    }
    const { post, calls } = await build({}, new SlowStore())
    const response = post('a', { status: 500 }).then(() => steps.push('sent'))
    await until(() => steps.length > 0)
    for (let i = 0; i < 20; i++) await new Promise(setImmediate)
    assert.deepEqual(steps, ['releasing'])
    released.resolve()
    await response
    assert.equal((await post('a', { status: 500 })).statusCode, 500)
    assert.equal(calls.count, 2)
  })

  test('the handler runs after the key is claimed', async () => {
    const claimed = Promise.withResolvers<void>()
    let claims = 0
    class SlowStore extends MemoryIdempotencyStore {
      override async claim(...args: Parameters<IdempotencyStore['claim']>): ReturnType<IdempotencyStore['claim']> {
        claims++
        await claimed.promise
        return super.claim(...args)
      }
    }
    const { post, calls } = await build({}, new SlowStore())
    const response = post('a')
    await until(() => claims === 1)
    for (let i = 0; i < 20; i++) await new Promise(setImmediate)
    assert.equal(calls.count, 0)
    claimed.resolve()
    await response
    assert.equal(calls.count, 1)
  })
})

describe('a repetition', () => {
  for (const status of [200, 201, 204, 302, 400, 404, 407, 409, 422, 424, 426, 428, 430, 499])
    test(`gets the stored response of status ${status}`, async () => {
      const { post, calls, counts } = await build()
      assert.equal((await post('a', { status })).statusCode, status)
      const again = await post('a', { status })
      assert.equal(again.statusCode, status)
      assert.equal(again.headers['idempotency-replayed'], 'true')
      assert.deepEqual([calls.count, counts.first, counts.replayed], [1, 1, 1])
    })

  for (const status of [408, 425, 429, 500, 501, 503, 599])
    test(`runs again after status ${status}`, async () => {
      const { post, calls } = await build()
      await post('a', { status })
      const again = await post('a', { status })
      assert.equal(again.headers['idempotency-replayed'], undefined)
      assert.equal(calls.count, 2)
    })

  test('gets a body of `maxResponseBytes`, and 409 for a larger one, without running again', async () => {
    const { post, calls } = await build({ maxResponseBytes: 1000 })
    const fits = { body: `é${'x'.repeat(998)}` }
    await post('a', fits)
    assert.equal((await post('a', fits)).body, fits.body)
    const large = { body: `é${'x'.repeat(999)}` }
    await post('b', large)
    const again = await post('b', large)
    assert.deepEqual([again.statusCode, again.json().code], [409, 'FLEET_ERR_IDEMPOTENCY_ANSWER_LOST'])
    assert.equal(calls.count, 2)
  })

  test('gets headers of 16 KiB, and 409 for larger ones, without running again', async () => {
    const { post, calls } = await build()
    for (const [key, length, status] of [
      ['a', 16_000, 200],
      ['b', 16_400, 409],
    ] as const) {
      const payload = { headers: { 'x-own': 'x'.repeat(length) } }
      assert.equal((await post(key, payload)).statusCode, 200)
      assert.equal((await post(key, payload)).statusCode, status)
    }
    assert.equal(calls.count, 2)
  })

  test('gets no cookie, date or rate limit of the first response', async () => {
    const { post } = await build()
    const payload = {
      headers: { 'set-cookie': 'a=b', 'ratelimit-remaining': '3', 'retry-after': '7', 'x-own': 'kept' },
    }
    assert.equal((await post('a', payload)).headers['set-cookie'], 'a=b')
    const { headers } = await post('a', payload)
    assert.equal(headers['x-own'], 'kept')
    for (const name of ['set-cookie', 'ratelimit-remaining', 'retry-after'])
      assert.equal(headers[name], undefined, name)
  })

  test('of another client, body or key is another request', async () => {
    const { post, calls } = await build()
    await post('a')
    assert.equal((await post('a', {}, '10.0.0.2')).body, 'call 2')
    assert.equal((await post('b')).body, 'call 3')
    assert.equal((await post('a', { status: 201 })).statusCode, 422)
    assert.equal((await post('a')).body, 'call 1')
    assert.equal(calls.count, 3)
  })
})

describe('the bounds of keys', () => {
  test('a client has `maxKeys` keys; the next one gets 429 and can be repeated elsewhere', async () => {
    const { post, calls, counts } = await build({ maxKeys: 2 })
    for (const key of ['a', 'b']) assert.equal((await post(key)).statusCode, 200)
    for (const _ of [1, 2]) {
      const over = await post('c')
      assert.deepEqual([over.statusCode, over.headers['retry-after']], [429, '360'])
    }
    assert.equal((await post('a')).body, 'call 1', 'a repetition is served')
    assert.equal((await post('c', {}, '10.0.0.2')).statusCode, 200)
    assert.deepEqual([calls.count, counts.too_many], [3, 2])
  })

  test('the limit is counted per client and hour, also for what was claimed in vain', async () => {
    const taken: unknown[][] = []
    const take = (...args: unknown[]) => {
      taken.push(args)
      return { count: 2, resetMs: 0 }
    }
    const { post } = await build({ maxKeys: 1 }, undefined, { take })
    for (const from of ['10.0.0.1', '10.0.0.2']) assert.equal((await post('a', {}, from)).statusCode, 429)
    const of = (client: string): unknown[] => [`idempotency client ${client}`, 3_600_000, 1, true]
    assert.deepEqual(taken, [of('10.0.0.1'), of('10.0.0.2')])
  })

  test('a limit that cannot be counted does not reject', async () => {
    const take = () => {
      throw new Error('full')
    }
    const { post } = await build({ maxKeys: 1 }, undefined, { take })
    for (const key of ['a', 'b']) assert.equal((await post(key)).statusCode, 200)
  })

  test('a key has 1 to 255 visible ASCII characters, with or without quotes', () => {
    assert.equal(keyOf(undefined), undefined)
    assert.equal(keyOf('x'.repeat(255)), 'x'.repeat(255))
    assert.equal(keyOf(`"${'x'.repeat(255)}"`), 'x'.repeat(255))
    assert.equal(keyOf('"a b\\"\\\\"'), 'a b"\\')
    for (const key of [
      '',
      '""',
      'x'.repeat(256),
      `"${'x'.repeat(256)}"`,
      'a b',
      'é',
      'a,b',
      '"a',
      'a"',
      '"\\a"',
      '\x7f',
    ])
      assert.throws(() => keyOf(key), { code: 'FLEET_ERR_IDEMPOTENCY_KEY_INVALID' }, key)
    assert.throws(() => keyOf(['a', 'b']), { code: 'FLEET_ERR_IDEMPOTENCY_KEY_INVALID' })
  })

  test('requests with streams of different lengths, methods or URLs are different ones', () => {
    const print = (more: object): string => {
      const request = { method: 'POST', url: '/files', body: { pipe() {} }, headers: { 'content-length': '5' } }
      return fingerprint({ ...request, ...more } as never)
    }
    assert.equal(print({}), print({ body: { pipe() {} } }))
    const others = [{ headers: { 'content-length': '6' } }, { method: 'PUT' }, { url: '/files?a' }, { body: '' }]
    assert.equal(new Set([{}, ...others].map(print)).size, 5)
  })

  test('records of different scopes and keys never share an id', () => {
    const ids = [
      recordId('a', 'b'),
      recordId('b', 'a'),
      recordId('ab', ''),
      recordId('', 'ab'),
      recordId('a b', 'c'),
      recordId('a', 'b c'),
    ]
    assert.equal(new Set(ids).size, ids.length)
  })
})

describe('an outage', () => {
  const down = (): IdempotencyStore => {
    const fail = () => Promise.reject(Object.assign(new Error('down'), { statusCode: 503 }))
    return { claim: fail, renew: fail, complete: fail, release: fail }
  }

  test('rejects requests with a key with `onOutage: reject`, before the handler', async () => {
    const { post, calls, counts } = await build({ onOutage: 'reject' }, down())
    assert.equal((await post('a')).statusCode, 503)
    assert.equal((await post()).statusCode, 200)
    assert.deepEqual([calls.count, counts.unavailable, counts.unprotected], [1, 1, 0])
  })

  test('runs requests with a key with `onOutage: allow`', async () => {
    const { post, calls, counts } = await build({ onOutage: 'allow' }, down())
    for (const _ of [1, 2]) assert.equal((await post('a')).statusCode, 200)
    assert.deepEqual([calls.count, counts.unavailable, counts.unprotected], [2, 0, 2])
  })
})

test('a route that requires a key rejects a request without one', async () => {
  const { post, calls } = await build({ required: true })
  assert.deepEqual([(await post()).statusCode, (await post('a')).statusCode, calls.count], [400, 200, 1])
})

describe('a request that takes longer than its lock', () => {
  test('renews it three times per lock until the response, and for at most an hour', async (t) => {
    const renewals: unknown[][] = []
    class Renewed extends MemoryIdempotencyStore {
      override async renew(...args: Parameters<IdempotencyStore['renew']>): Promise<void> {
        renewals.push(args)
        throw new Error('a failed renewal is not fatal')
      }
    }
    let now = 1_000
    t.mock.method(performance, 'now', () => now)
    t.mock.timers.enable({ apis: ['setInterval'] })
    const options = { ...defaults, lockMs: 30_000, maxKeys: false } as never
    const handler = new IdempotencyHandler(new Renewed(), new MemoryLimitStore(), options)
    t.after(() => handler.close())
    const request = { headers: { 'idempotency-key': 'a' }, method: 'POST', url: '/', socket: {}, raw: {}, log: {} }
    const reply = { statusCode: 200, getHeaders: () => ({}), getHeader: () => undefined }
    const begin = async (key: string): Promise<KeyedRequest> => {
      const own = { ...request, headers: { 'idempotency-key': key } } as unknown as KeyedRequest
      await handler.begin(own, reply as never, { required: false, ttlMs: 60_000, onOutage: 'reject' })
      return own
    }
    const pass = (ms: number): number => {
      now += ms
      t.mock.timers.tick(ms)
      return renewals.length
    }
    const own = await begin('a')
    assert.deepEqual([pass(9_999), pass(1), pass(10_000)], [0, 1, 2])
    const { id, print, token } = own[first] as unknown as Record<string, string>
    assert.deepEqual(renewals[0], [id, print, token, 30_000])
    await handler.end(own, reply as never, 'done')
    assert.equal(pass(60_000), 2)
    await begin('b')
    let last = 0
    for (let i = 0; i < 400; i++) last = pass(10_000)
    assert.ok(last > 300 && last <= 363, `${last} renewals`)
    assert.equal(pass(100_000), last)
  })
})
