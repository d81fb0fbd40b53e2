import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { visits } from '../../../src/cli/smoke/visits.ts'
import type { TargetResponse } from '../../../src/cli/target.ts'
import { context, from, inTurn, recorder, target } from './stand-ins.ts'

/** An app whose instances, in turn, count the visits of each session. */
interface App {
  /** The instance that keeps the sessions of this one; default: all share them. */
  storeOf?(instance: string): string
  answer?(count: number): Partial<TargetResponse>
  cookies?: readonly string[]
  next?(): string
}

async function run({ storeOf = () => 'all', answer = json, cookies = ['route=a', 'sid'], next = inTurn(3) }: App) {
  const counts = new Map<string, number>()
  let sessions = 0
  const respond = (cookie: string | undefined, instanceId: string): Partial<TargetResponse> => {
    const known = cookie && counts.has(`${storeOf(instanceId)} ${cookie}`) ? cookie : undefined
    const own = known ?? `sid=${++sessions}`
    const key = `${storeOf(instanceId)} ${own}`
    counts.set(key, (counts.get(key) ?? 0) + 1)
    const set = known ? [] : cookies.map((each) => (each === 'sid' ? own : each))
    return { instanceId, cookies: set, ...answer(counts.get(key) ?? 0) }
  }
  const front = target((path, { headers }) => {
    assert.equal(path, '/count')
    return respond(headers?.cookie, next())
  })
  const direct = target((_path, { headers }) => respond(headers?.cookie, 'c'))
  const check = async (more: object = {}): Promise<string[]> => {
    const { results, said } = recorder()
    await visits(context({ front, sample: from({ a: 1, b: 1, c: 1 }), ...more }), '/count', results)
    return said()
  }
  return { check, direct }
}
const json = (count: number): Partial<TargetResponse> => ({
  json: { visits: count },
  text: JSON.stringify({ visits: count }),
})
const text = (body: string): Partial<TargetResponse> => ({ text: body })

const start = 'pass /count starts at 1 for every client without a cookie'
const same = '→ set the same secrets and REDIS_URL on each instance'

describe('the count of visits', () => {
  it('passes if it goes on over every instance and each address, by the cookie of the session', async () => {
    const { check, direct } = await run({})
    assert.deepEqual(await check(), [start, 'pass the session counted to 5 on 3 instances: a, b, c'])
    assert.deepEqual(await check({ direct: [direct, direct] }), [
      start,
      'pass the session counted to 7 on 3 instances: a, b, c',
    ])
  })

  it('is read from a number, a text, the members visits and count, or the only whole number', async () => {
    const first = async (answer: App['answer']): Promise<string | undefined> =>
      (await (await run({ answer })).check())[0]
    for (const answer of [
      (n: number) => ({ json: n, text: String(n) }),
      (n: number) => text(` ${n}\n`),
      (n: number) => ({ json: { count: n, other: 7 } }),
      (n: number) => ({ json: { seen: n, name: 'x', share: 0.5 } }),
    ])
      assert.equal(await first(answer), start)
    for (const answer of [
      () => text('one'),
      () => text('1'.repeat(16)),
      () => text('1.5'),
      () => text('1 2'),
      (n: number) => ({ json: { a: n, b: 2 } }),
      () => ({ json: { visits: '1' } }),
      () => ({ json: null }),
    ])
      assert.equal(await first(answer), 'fail /count returns no count')
    for (const status of [199, 300, 404, 500])
      assert.equal(await first((n) => ({ ...json(n), status })), `fail /count: 1 × ${status}`)
    for (const status of [201, 299]) assert.equal(await first((n) => ({ ...json(n), status })), start)
  })

  it('fails if it is none of a session', async () => {
    let count = 0
    const shared = await run({ answer: () => json(++count) })
    assert.deepEqual(await shared.check(), [
      'fail /count counts 1 and then 2 without a cookie',
      '→ count in the session, e.g. request.session.visits',
    ])
    let asked = 0
    const broken = await run({ answer: () => (asked++ === 0 ? json(1) : text('')) })
    assert.equal((await broken.check())[0], 'fail /count counts 1 and then nothing without a cookie')
    const without = await run({ cookies: [] })
    assert.deepEqual((await without.check()).slice(1), [
      'fail /count sets no cookie',
      '→ save something in the session; a secure cookie needs https; the log tells if `session.anonymous` limits new sessions',
    ])
    const other = await run({ cookies: ['route=a', 'x=1; y'] })
    assert.deepEqual((await other.check()).slice(1), ['fail no cookie continues the count: route, x', same])
  })

  it('fails if an instance does not know the session, and says which', async () => {
    const { check } = await run({ storeOf: (instance) => (instance === 'c' ? 'own' : 'all') })
    const said = await check()
    assert.match(said[1] ?? '', /^fail the session was lost in \d+ of \d+ visits: c counted 1 after \d+$/)
    assert.equal(said[2], same)
    const twice = await run({ answer: (count) => json(count < 4 ? count : count + 1) })
    assert.match(
      (await twice.check())[1] ?? '',
      /^fail the session was lost in \d of \d visits: [abc] counted 5 after 3$/,
    )
  })

  it('is skipped if a sticky front reaches too few instances', async () => {
    const { check, direct } = await run({ next: () => 'a' })
    assert.deepEqual((await check()).slice(1), [
      'skip the session reached 1 of 3 instances in 36 visits',
      '→ the front is sticky: pass the address of each instance (--instance)',
    ])
    assert.equal(
      (await check({ expected: 2, direct: [direct] }))[1],
      'pass the session counted to 27 on 2 instances: a, c',
    )
  })
})
