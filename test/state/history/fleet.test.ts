import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import type { Departure } from '../../../src/state/history/departed.ts'
import type { StoredEvent } from '../../../src/state/history/events.ts'
import type { HistoryPoint, RouteReport } from '../../../src/state/history/points.ts'
import { type App, forkApp } from '../../helpers/fork-app.ts'
import { until } from '../../helpers/until.ts'
import { ownRedis } from '../own-redis.ts'

interface State {
  readonly servedBy: string
  readonly at: number
  readonly redis: { readonly state: string; readonly since: number }
  readonly fields: readonly string[]
  readonly instances: readonly unknown[][]
  readonly departed: readonly Departure[]
}

const ids = ({ instances }: State): string => instances.map(([id]) => id).join()

describe('a fleet with Redis', () => {
  const own = ownRedis()

  class Instance {
    readonly app: App
    readonly id: string

    constructor(id: string) {
      this.id = id
      const env = {
        REDIS_URL: own.server.url,
        INSTANCE_ID: id,
        SESSION_SECRET: 's'.repeat(32),
        JWT_SECRET: 'j'.repeat(32),
      }
      this.app = forkApp(new URL('./fleet.fixture.ts', import.meta.url), { env })
    }

    async listening(): Promise<this> {
      await until(() => this.url, { what: `${this.id} listens` })
      return this
    }

    get url(): string | undefined {
      return /^http:\S+/m.exec(this.app.stdout)?.[0]
    }

    async get<T>(path: string): Promise<T> {
      const response = await fetch(`${this.url}/fleet/${path}`)
      assert.equal(response.status, 200, path)
      return (await response.json()) as T
    }

    async events(): Promise<StoredEvent[]> {
      return (await this.get<{ events: StoredEvent[] }>('events')).events
    }

    /** Kinds and texts of an instance's events, oldest first. */
    async told(id: string): Promise<string[]> {
      const events = (await this.events()).filter(({ instance }) => instance === id).reverse()
      return events.filter(({ kind }) => !kind.startsWith('check-')).map(({ kind, text }) => `${kind}: ${text}`)
    }
  }
  const start = (id: string): Promise<Instance> => new Instance(id).listening()
  let a: Instance
  let b: Instance
  let c: Instance
  before(async () => {
    const all = await Promise.all(['a', 'b', 'c'].map(start))
    ;[a, b, c] = all as [Instance, Instance, Instance]
    await until(async () => ids(await a.get('state')) === 'a,b,c')
    for (const { url } of all)
      for (const id of ['1', '2', 'missing', 'broken']) await (await fetch(`${url}/items/${id}`)).text()
  })

  test('keeps its figures, which are the same on every instance, also on one that started later', async () => {
    const seen = async (instance: Instance): Promise<readonly HistoryPoint[]> =>
      (await instance.get<{ points: HistoryPoint[] }>('history?range=15m')).points
    const total = (points: readonly HistoryPoint[], name: 'requests' | 'clientErrors' | 'serverErrors'): number =>
      points.reduce((sum, point) => sum + point[name], 0)
    const points = await until(async () => {
      const found = await seen(a)
      return total(found, 'requests') === 12 ? found : undefined
    })
    assert.deepEqual([total(points, 'clientErrors'), total(points, 'serverErrors')], [3, 3])
    const busy = points.find(({ requests }) => requests > 0) as HistoryPoint
    assert.ok(busy.p50 !== null && busy.p95 !== null && busy.p95 >= busy.p50 && busy.memory > 1_000_000)
    assert.ok(points.every(({ instances }) => instances <= 3))
    const later = await start('d')
    // On a busy machine an instance may write a step late, between the two reads.
    await until(async () => {
      const [own, other] = await Promise.all([seen(a), seen(later)])
      const end = Math.min(own.at(-1)?.at ?? 0, other.at(-1)?.at ?? 0)
      assert.deepEqual(
        other.filter(({ at }) => at <= end),
        own.filter(({ at }) => at <= end),
      )
      return total(other, 'requests') === 12
    })
    const { routes, omitted } = await later.get<RouteReport>('routes')
    assert.partialDeepStrictEqual(routes, [
      { method: 'GET', route: '/items/:id', requests: 12, clientErrors: 3, serverErrors: 3 },
    ])
    assert.deepEqual([routes.length, omitted], [1, 0])
    later.app.kill('SIGKILL')
  })

  test('records a killed instance once, and how another one drained and stopped', async () => {
    assert.match((await a.told('b')).join(), /^started: version .*, process \d+ on .*,ready: after .* s$/)
    b.app.kill('SIGKILL')
    await fetch(`${a.url}/fleet/drain`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"instance":"c"}',
    })
    await until(async () => (await a.told('c')).at(-1)?.startsWith('draining'))
    await fetch(`${a.url}/fleet/undrain`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"instance":"c"}',
    })
    await until(async () => (await a.told('c')).at(-1)?.startsWith('undrained'))
    c.app.kill('SIGTERM')
    await c.app.exit
    const lost = await until(async () => (await a.told('b')).find((text) => text.startsWith('lost')))
    assert.match(lost, /^lost: last seen \d+ s before$/)
    const [, , ...told] = await a.told('c')
    assert.deepEqual(told.slice(0, -1), [
      'draining: out of rotation, still serving',
      'undrained: back in rotation',
      'draining: SIGTERM: shuts down',
    ])
    assert.match(told.at(-1) ?? '', /^stopped: SIGTERM, drained in [\d.]+ s$/)

    const state = await until(async () => {
      const found = await a.get<State>('state')
      return found.departed.some(({ id }) => id === 'b') ? found : undefined
    })
    const { departed } = state
    assert.ok(!ids(state).includes('b') && !ids(state).includes('c'))
    // `c` may stop before or after the loss of `b` is recorded.
    const ended = departed.filter(({ id }) => id !== 'd').sort((one, other) => (one.id < other.id ? -1 : 1))
    assert.deepEqual(
      ended.map(({ id, reason, state: last, pool }) => [id, reason, last, pool]),
      [
        ['b', 'lost', 'serving', 'default'],
        ['c', 'stopped', 'draining', 'default'],
      ],
    )
    // Every peer has noticed by now.
    const again = await start('b')
    await until(async () => ids(await a.get('state')).includes('b'))
    assert.equal((await a.told('b')).filter((text) => text.startsWith('lost')).length, 1)
    const { departed: others } = await again.get<State>('state')
    assert.ok(!others.some(({ id }) => id === 'b'), 'it is back')
    again.app.kill('SIGKILL')
  })

  test('records what other programs report, and who was killed', async () => {
    const post = async (body: object): Promise<number> => {
      const response = await fetch(`${a.url}/fleet/events`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
      await response.text()
      return response.status
    }
    assert.equal(await post({ kind: 'deploy-started', version: '2', text: '3 steps' }), 202)
    assert.partialDeepStrictEqual(
      (await a.events()).find(({ kind }) => kind === 'deploy-started'),
      {
        ...{ kind: 'deploy-started', version: '2', text: '3 steps' },
      },
    )
    const e = await start('e')
    await until(async () => ids(await a.get('state')).includes('e'))
    e.app.kill('SIGKILL')
    await e.app.exit
    assert.equal(await post({ kind: 'killed', instance: 'e', text: 'SIGKILL' }), 202)
    const state = await a.get<State>('state')
    assert.ok(!ids(state).includes('e'), 'before its lease ends')
    const version = state.instances.find(([id]) => id === 'a')?.[state.fields.indexOf('version')]
    assert.ok(version)
    // The loss of `b`, which the test before has killed, may be recorded later.
    assert.partialDeepStrictEqual(
      state.departed.find(({ id }) => id === 'e'),
      { id: 'e', reason: 'killed', detail: 'SIGKILL', state: 'serving', version },
    )
    // Written by the instance itself.
    assert.equal(await post({ kind: 'killed', instance: 'c', text: 'exit code 1' }), 202)
    assert.ok(!(await a.told('c')).join().includes('killed'))
  })

  test('serves the page without Redis, and shows since when it is gone', async () => {
    const before = await a.get<State>('state')
    assert.equal(before.redis.state, 'ok')
    process.kill(own.server.pid, 'SIGSTOP')
    const since = performance.now()
    try {
      const state = await until(async () => {
        const found = await a.get<State>('state')
        return found.redis.state === 'ok' ? undefined : found
      })
      assert.ok(state.redis.since > before.at && state.redis.since <= state.at + 1_000)
      assert.ok(state.departed.length > 0, 'from memory')
      assert.equal((await fetch(`${a.url}/items/1`)).status, 200)
      const down = await until(async () => {
        const { redis, instances, fields } = await a.get<State>('state')
        const failing = instances.find(([id]) => id === 'a')?.[fields.indexOf('failing')] as string[]
        return redis.state === 'down' && failing.includes('redis') ? redis : undefined
      })
      assert.ok(down.since >= state.redis.since)
      for (const path of ['history', 'events', 'routes']) {
        const response = await fetch(`${a.url}/fleet/${path}`)
        assert.equal(response.status, 503, path)
        assert.equal(((await response.json()) as { code: string }).code, 'FLEET_ERR_STATE_UNAVAILABLE')
      }
      assert.partialDeepStrictEqual(await a.get('dependencies'), { redis: { state: 'down', usedMemory: null } })
      await until(() => performance.now() - since > 5_000)
    } finally {
      process.kill(own.server.pid, 'SIGCONT')
    }
    await until(async () => (await a.get<State>('state')).redis.state === 'ok')
    const failing = async (): Promise<string[] | undefined> =>
      (await a.get<{ checks: { name: string; failing: string[] }[] }>('dependencies')).checks.find(
        ({ name }) => name === 'redis',
      )?.failing
    await until(async () => (await failing())?.length === 0, { what: 'the check to pass' })
    const told = await until(async () => {
      const events = await a.events()
      const ofRedis = events
        .filter(({ kind, text, at }) => at >= before.at && kind.startsWith('check-') && text.startsWith('redis'))
        .reverse()
      return ofRedis.some(({ kind }) => kind === 'check-recovered') ? ofRedis : undefined
    })
    assert.deepEqual(
      told.map(({ kind }) => kind),
      ['check-failed', 'check-recovered'],
    )
    assert.ok((told[0]?.at ?? 0) < Number.parseInt(told[0]?.id ?? '', 10), 'it happened before it was recorded')
    a.app.kill('SIGTERM')
    assert.deepEqual((await a.app.exit).code, 0)
  })
})
