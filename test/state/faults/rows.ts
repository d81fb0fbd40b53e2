import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import { until } from '../../helpers/until.ts'
import { Browser } from '../session/browser.ts'
import { type Fleet, limit, ttl } from './fleet.ts'

/** One row of docs/faults.md: `look` returns its present outcome in the words of the cells, or any other outcome. */
export interface Row {
  readonly look: () => Promise<string>
  /** The outcome changes some time after the fault begins or ends. */
  readonly slowly?: boolean
}

const hour = 3_600_000

export interface Rows {
  readonly rows: ReadonlyMap<string, Row>
  /** Replaces the state that looking has used up, for as many looks again. */
  readonly restock: () => Promise<unknown>
  readonly end: () => void
}

/**
 * Creates the state of one client in a healthy fleet, and the rows that observe it.
 *
 * @param looks how often a row may be observed during a fault
 * @param deliveryMs a message that has not arrived by then counts as not delivered
 */
export async function prepare([a, b, c]: Fleet, looks: number, deliveryMs: number): Promise<Rows> {
  const stocks: Stock<unknown>[] = []
  const supply = async <T>(make: (n: number) => Promise<T>): Promise<() => Promise<T>> => {
    const stock = new Stock(looks, make)
    stocks.push(stock)
    await stock.fill()
    return () => stock.take()
  }
  const visitor = async (userId: string): Promise<Browser> => {
    const made = new Browser()
    assert.equal((await made.post(a, '/session', { userId })).statusCode, 200)
    return made
  }
  const browser = await until(() => visitor('ann'))
  const visit = (app: FastifyInstance): Promise<string> =>
    browser
      .clone()
      .get(app, '/session')
      .then((response) => outcomeOf(response, ({ user }) => (user === 'ann' ? 'works' : `${user}`)))

  const seen = (await until(() => a.tokens.issue('ann'))).accessToken
  const me = (app: FastifyInstance, token: string): Promise<string> =>
    inject(app, { url: '/me', headers: { authorization: `Bearer ${token}` } }).then((response) =>
      outcomeOf(response, ({ sub }) => (sub === 'ann' ? 'works' : String(sub))),
    )
  const unseen = await supply(async () => (await a.tokens.issue('ann')).accessToken)
  const pairs = await supply(() => a.tokens.issue('ann'))
  const logins = await supply(() => a.tokens.issue('ann'))
  const begun = await supply(() => visitor('eve'))

  const memory = (): Promise<unknown> => a.cache.getOrSet('memory', hour, () => 'loaded')
  const far = await supply(async (n) => {
    await b.cache.set(`far ${n}`, 'found', hour)
    return `far ${n}`
  })
  const deleted = await supply(async (n) => {
    await a.cache.set(`deleted ${n}`, 'found', hour)
    return `deleted ${n}`
  })
  const stale = { staleIfErrorMs: hour }
  await a.cache.getOrSet('stale', 1, () => 'old', stale)
  const page = (): Promise<LightMyRequestResponse> => inject(a, { url: '/page' })

  const completed = randomUUID()
  const order = (app: FastifyInstance, key?: string): Promise<LightMyRequestResponse> =>
    inject(app, { method: 'POST', url: '/orders', payload: {}, headers: key ? { 'idempotency-key': key } : {} })
  await until(async () => (await order(a, completed)).statusCode === 200)

  const holding = new AbortController()
  const jobs = [a, b].map((app) => app.fleet.leader('job', () => {}))
  let received = 0
  let hears = false
  const unsubscribe = b.fleet.subscribe('faults', () => received++, {
    onReconnect: () => {
      hears = true
    },
    onLost: () => {
      hears = false
    },
  })

  const rows: [string, Row | (() => Promise<string>)][] = [
    [
      'Sessions: a request without a session cookie',
      async () => outcomeOf(await new Browser().get(a, '/session'), () => 'works'),
    ],
    ['Sessions: a session is read', () => visit(a)],
    [
      'Sessions: a session is changed',
      async () => outcomeOf(await browser.clone().post(a, '/session', { n: randomUUID() }), () => 'works'),
    ],
    [
      'Sessions: a session begins',
      async () => outcomeOf(await new Browser().post(a, '/session', { n: 1 }), () => 'works'),
    ],
    [
      'Sessions: a session is ended',
      async () => outcomeOf(await (await begun()).send(a, { method: 'DELETE', url: '/session' }), () => 'works'),
    ],
    [
      "Sessions: a session is read, `onOutage: 'allow'`",
      async () => {
        const response = await browser.clone().get(b, '/session')
        assert.equal(response.headers['set-cookie'], undefined)
        return outcomeOf(response, ({ user }) => (user === 'ann' ? 'works' : 'anonymous'))
      },
    ],
    ['Sessions: a session is read, `track: true`', { look: () => visit(c), slowly: true }],

    ['JWT: an access token seen before', { look: () => me(a, seen), slowly: true }],
    ['JWT: an access token seen for the first time', { look: async () => me(a, await unseen()), slowly: true }],
    ["JWT: an access token, `onOutage: 'allow'`", () => me(b, seen)],
    ['JWT: a login', () => done(a.tokens.issue('ann'))],
    ['JWT: a refresh', async () => done(a.tokens.refresh((await pairs()).refreshToken))],
    ['JWT: a logout', async () => done(a.tokens.revoke((await logins()).accessToken))],

    [
      "Cache: a value in this instance's memory",
      {
        look: async () => {
          let loads = false
          await a.cache.getOrSet('memory', hour, () => {
            loads = true
            return 'loaded'
          })
          return loads ? 'loads' : 'works'
        },
        slowly: true,
      },
    ],
    [
      'Cache: a value that only Redis has',
      {
        look: async () => ((await a.cache.getOrSet(await far(), hour, () => 'loaded')) === 'found' ? 'works' : 'loads'),
        slowly: true,
      },
    ],
    [
      'Cache: a value in no cache',
      async () => {
        const key = randomUUID()
        let loads = 0
        const load = async (): Promise<string> => {
          loads++
          await new Promise((resolve) => setTimeout(resolve, 20))
          return 'loaded'
        }
        await Promise.all([a, b].map(({ cache }) => cache.getOrSet(key, hour, load)))
        return loads === 1 ? 'works' : 'each loads'
      },
    ],
    [
      'Cache: a stale value whose loader fails',
      async () => {
        const value = await a.cache.getOrSet('stale', hour, () => Promise.reject(new Error('down')), stale)
        return value === 'old' ? 'stale' : String(value)
      },
    ],
    [
      'Cache: a value is deleted',
      async () => {
        const key = await deleted()
        await a.cache.delete(key)
        assert.equal(await a.cache.get(key), undefined)
        // The read on b goes to Redis, whether b received the invalidation or not.
        return (await b.cache.get(key)) === undefined && (await reachable(b, key)) ? 'works' : 'pending'
      },
    ],
    [
      'Cache: a cached response',
      {
        look: async () => {
          const response = await page()
          return outcomeOf(response, () =>
            response.headers['cache-status'] === 'fleet; hit' ? 'works' : 'the handler',
          )
        },
        slowly: true,
      },
    ],

    [
      'Rate limits: a limited request',
      async () => {
        const client = Array.from({ length: 3 }, () => Math.floor(Math.random() * 256)).join('.')
        const response = await inject(a, { url: '/limited', remoteAddress: `10.${client}` })
        const left = Number(response.headers['ratelimit-remaining'])
        return outcomeOf(response, () =>
          left === limit - 1 ? 'works' : left === limit / 3 - 1 ? 'own share' : `${left} left`,
        )
      },
    ],

    ['Idempotency keys: a POST without a key', async () => outcomeOf(await order(a), () => 'works')],
    ['Idempotency keys: a POST with a key', async () => outcomeOf(await order(a, randomUUID()), () => 'works')],
    [
      "Idempotency keys: a POST with a key, `onOutage: 'allow'`",
      async () => {
        const key = randomUUID()
        const [first, again] = [await order(b, key), await order(b, key)]
        assert.equal(first.statusCode, 200)
        return outcomeOf(again, () => (again.headers['idempotency-replayed'] ? 'works' : 'unprotected'))
      },
    ],
    [
      'Idempotency keys: a completed POST is repeated',
      async () => {
        const again = await order(a, completed)
        return outcomeOf(again, () => (again.headers['idempotency-replayed'] ? 'works' : 'run twice'))
      },
    ],

    ['Locks and leader: a lock is taken', () => done(a.fleet.lock(randomUUID(), () => 1))],
    ['Locks and leader: a held lock', { look: hold(a, holding.signal), slowly: true }],
    [
      'Locks and leader: a leader',
      { look: async () => (jobs.some((job) => job.leading) ? 'works' : 'no leader'), slowly: true },
    ],

    [
      'Broadcast: a message is published',
      async () => {
        const before = received
        const sent = await done(a.fleet.publish('faults', 1))
        if (sent !== 'works') return sent
        await until(() => received > before || !hears, { timeoutMs: deliveryMs }).catch(() => {})
        return received > before ? 'works' : 'not delivered'
      },
    ],

    [
      'Registry: the list of peers',
      {
        look: async () => {
          const ids = a.fleet.peers().map(({ id }) => id)
          if (ids.join() !== 'a,b,c') return ids.join()
          const { registry } = a.fleet.facts
          return registry === 'live' ? 'works' : registry === 'last-known' ? 'last known' : String(registry)
        },
        slowly: true,
      },
    ],
    ['Registry: a command to a peer', () => done(a.fleet.command('b', 'undrain'))],

    [
      'Health: `/live` and `/ready`',
      async () => {
        const [live, ready] = [await inject(a, { url: '/live' }), await inject(a, { url: '/ready' })]
        return outcomeOf(live, () => outcomeOf(ready, () => 'works'))
      },
    ],
  ]
  const named = new Map(rows.map(([name, row]) => [name, typeof row === 'function' ? { look: row } : row]))
  await memory()
  await page()
  await me(a, seen)
  for (const [name, { look }] of named) {
    const expected = name.includes('stale') ? 'stale' : 'works'
    await until(async () => (await look()) === expected, { what: name })
  }
  return {
    rows: named,
    restock: () => Promise.all(stocks.map((stock) => stock.fill())),
    end: () => {
      holding.abort()
      unsubscribe()
      for (const job of jobs) void job.stop()
    },
  }
}

const inject = async (app: FastifyInstance, request: InjectOptions): Promise<LightMyRequestResponse> =>
  app.inject(request)

/** State that looking uses up. It is created in advance, because it cannot be created during a fault. */
class Stock<T> {
  readonly #size: number
  readonly #make: (n: number) => Promise<T>
  readonly #made: T[] = []
  #count = 0

  constructor(size: number, make: (n: number) => Promise<T>) {
    this.#size = size
    this.#make = make
  }

  async fill(): Promise<void> {
    while (this.#made.length < this.#size)
      this.#made.push(...(await Promise.all(Array.from({ length: 40 }, () => this.#one()))))
  }

  /** Waits for a new one if none is left. */
  async take(): Promise<T> {
    return this.#made.pop() ?? (await this.#one())
  }

  async #one(): Promise<T> {
    return (await until(() => this.#make(this.#count++), { what: 'new stock' })) as T
  }
}

function outcomeOf(response: LightMyRequestResponse, onSuccess: (body: Record<string, unknown>) => string): string {
  if (response.statusCode === 200) return onSuccess(response.json())
  if (response.statusCode !== 503) return `${response.statusCode} ${response.body}`
  assert.equal(response.headers['retry-after'], '1')
  assert.doesNotMatch(response.body, /redis|READONLY|OOM|NOREPLICAS|stream|connect|127\.0\.0\.1/i)
  return unavailable(response.json().code)
}

function unavailable(code: unknown): string {
  assert.match(String(code), /^FLEET_ERR_STATE_(UNAVAILABLE|FULL)$/)
  return code === 'FLEET_ERR_STATE_FULL' ? '503 full' : '503'
}

const done = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'works',
    (error: { code?: string; statusCode?: number }) => {
      if (error.code === 'FLEET_ERR_LOCK_LOST') return 'lost'
      if (error.code === 'FLEET_ERR_COMMAND_TIMEOUT') return String(error.statusCode)
      assert.equal(error.statusCode, 503)
      return unavailable(error.code)
    },
  )

/** Whether Redis responds and does not have the key. */
const reachable = async (app: FastifyInstance, key: string): Promise<boolean> =>
  (await app.redis?.exists(app.redisKey('cache', key)).catch(() => 1)) === 0

/** Holds a lock and acquires it again after a loss. */
function hold(app: FastifyInstance, end: AbortSignal): () => Promise<string> {
  let held = false
  const work = async (_token: number, lost: AbortSignal): Promise<void> => {
    held = true
    await new Promise((resolve) => AbortSignal.any([lost, end]).addEventListener('abort', resolve, { once: true }))
    held = false
  }
  const again = async (): Promise<void> => {
    while (!end.aborted && app.fleet.state !== 'closed') {
      await app.fleet.lock('held', work, { ttlMs: ttl }).catch(() => {})
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  void again()
  return async () => (held ? 'works' : 'lost')
}
