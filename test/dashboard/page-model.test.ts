import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { fleetOf, instance, now, type PageInMemory, quiet } from './page-in-memory.ts'

test('writes figures with their unit, and a dash for what is not known', async () => {
  const page = quiet()
  for (const [name, value, expected] of [
    ['count', 99_999, '99,999'],
    ['count', 100_000, '100K'],
    ['rate', 12.34, '12.3'],
    ['rate', 100, '100'],
    ['rate', 100_000, '100K'],
    ['ms', 99.96, '100 ms'],
    ['ms', 9_999, '9,999 ms'],
    ['ms', 10_000, '10 s'],
    ['percent', 0, '0 %'],
    ['percent', 0.0004, '<0.1 %'],
    ['percent', 0.0005, '0.1 %'],
    ['percent', 0.1, '10 %'],
    ['bytes', 999, '999 B'],
    ['bytes', 1_000, '1 kB'],
    ['bytes', 1.54e9, '1.5 GB'],
    ['duration', -5, '0 s'],
    ['duration', 59_999, '59 s'],
    ['duration', 60_000, '1 min'],
    ['duration', 200_000, '3 min 20 s'],
    ['duration', 3_900_000, '1 h 5 min'],
    ['duration', 183_600_000, '2 days 3 h'],
    ['duration', null, '–'],
  ] as const)
    assert.equal(await page.call(`format.${name}`, value), expected, `${name} ${value}`)
})

describe('the sentence about the fleet', () => {
  const summary = (page: PageInMemory, state: object): Promise<{ text: string; tone: string; short: string }> =>
    page.value(`fleet = ${JSON.stringify(state)}, summarise(fleet)`)

  test('counts those that ended unexpectedly for 15 minutes, each until a later one replaces it', async () => {
    const page = quiet()
    const ended = (id: string, reason: string, ago: number) => ({ id, reason, at: now - ago })
    const text = async (departed: object[], ...startedAgo: number[]): Promise<string> => {
      const others = startedAgo.map((ago, i) => instance(`n${i}`, { startedAt: now - ago }))
      return (await summary(page, fleetOf([instance('a'), ...others], { departed }))).text
    }
    for (const reason of ['killed', 'lost', 'gone'])
      assert.equal(await text([ended('b', reason, 5_000)]), `1 of 2 serving; b ${reason} 5 s ago`)
    assert.equal(await text([ended('b', 'stopped', 5_000)]), '1 of 1 serving')
    assert.equal(await text([ended('a', 'lost', 5_000)]), '1 of 1 serving', 'it is back')
    assert.equal(await text([ended('b', 'lost', 899_999)]), '1 of 2 serving; b lost 14 min 59 s ago')
    assert.equal(await text([ended('b', 'lost', 900_000)]), '1 of 1 serving')
    assert.equal(await text([ended('b', 'lost', 5_000)], 4_999), '2 of 2 serving')
    assert.equal(await text([ended('b', 'lost', 5_000)], 5_000), '2 of 3 serving; b lost 5 s ago')
    const two = [ended('b', 'lost', 5_000), ended('c', 'killed', 7_000)]
    assert.equal(await text(two, 1_000), '2 of 3 serving; b lost 5 s ago', 'one instance replaces one')
    assert.equal(await text(two), '1 of 3 serving; 2 ended unexpectedly, the last 5 s ago')
  })

  test('names instances that are silent, unless Redis is why nothing is heard of them', async () => {
    const page = quiet()
    const quietFor = (ms: number, count = 1, redis = 'ok') =>
      summary(
        page,
        fleetOf(
          [instance('z'), ...Array.from({ length: count }, (_, i) => instance(`a${i}`, { lastSeen: now - ms }))],
          {
            redis: { state: redis },
          },
        ),
      )
    assert.equal((await quietFor(6_000)).text, '2 of 2 serving')
    assert.equal((await quietFor(6_001)).text, '2 of 2 serving; a0 silent for 6 s')
    assert.equal((await quietFor(6_001)).tone, 'warn')
    assert.equal((await quietFor(6_001, 1, 'none')).text, '2 of 2 serving; a0 silent for 6 s')
    assert.equal((await quietFor(9_000, 2)).text, '3 of 3 serving; 2 silent')
    assert.equal((await quietFor(9_000, 1, 'degraded')).text, '2 of 2 serving; Redis degraded')
    assert.equal((await quietFor(9_000, 1, 'down')).text, '2 of 2 serving; Redis down; instances as last known')
  })

  test('is red if less than half serves, nothing serves or Redis is down, and amber for anything else', async () => {
    const page = quiet()
    const tone = async (states: string[], redis = 'ok', failing: string[] = []): Promise<string> =>
      (
        await summary(
          page,
          fleetOf(
            states.map((state, i) => instance(`i${i}`, { state, failing })),
            { redis: { state: redis } },
          ),
        )
      ).tone
    assert.equal(await tone(['serving', 'serving']), 'good')
    assert.equal(await tone(['serving', 'draining']), 'warn', 'half')
    assert.equal(await tone(['serving', 'draining', 'starting']), 'bad')
    assert.equal(await tone(['draining']), 'bad')
    assert.equal(await tone([]), 'bad')
    assert.equal(await tone(['serving'], 'degraded'), 'warn')
    assert.equal(await tone(['serving'], 'down'), 'bad')
    assert.equal(await tone(['serving'], 'ok', ['mail']), 'warn')
  })
})

test('warns before the last serving instance of the fleet or of a pool is drained', async () => {
  const page = quiet()
  const why = (one: object, ...others: object[]): Promise<string | undefined> =>
    page.value(`fleet = ${JSON.stringify(fleetOf([one, ...others]))}, whyKeep(fleet.instances[0])`)
  const draining = { state: 'draining' }
  assert.match((await why(instance('a'))) ?? '', /^a is the last serving instance\. /)
  assert.match((await why(instance('a'), instance('b', draining))) ?? '', /^a is the last serving instance\. /)
  assert.match(
    (await why(instance('a'), instance('b', draining), instance('c', { pool: 'api' }))) ?? '',
    /^a is the last serving instance of pool default\. /,
  )
  assert.equal(await why(instance('a'), instance('b')), undefined)
  assert.equal(await why(instance('a', draining), instance('b', { pool: 'api' })), undefined, 'it drains already')
})

test('adds up the figures of instances: failures by their requests, the slowest p95, the busiest event loop', async () => {
  const page = quiet()
  const all = [
    instance('a', { rps: 90, errorRate: 0, p95: 30, loop: 0.2 }),
    instance('b', { rps: 10, errorRate: 0.5, p95: 20, loop: 0.7, state: 'draining' }),
  ]
  const totals = { serving: 1, rps: 100, errorRate: 0.05, p95: 30, loop: 0.7, memory: 2_000 }
  assert.deepEqual(await page.call('totalsOf', all), totals)
  assert.equal((await page.call<{ errorRate: number }>('totalsOf', [instance('a', { rps: 0 })])).errorRate, 0)
  const older = [instance('a', { errorRate: undefined })]
  assert.equal((await page.call<{ errorRate?: number }>('totalsOf', older)).errorRate, undefined)
})

test('keeps an instance that has vanished as gone until the fleet explains it, for 10 s', async () => {
  const page = quiet()
  const left = { id: 'b', reason: 'gone', at: now - 9_999 }
  const departed = async (next: object, before: object): Promise<string[]> => {
    const found = await page.call<{ departed: { id: string; reason: string }[] }>('withVanished', next, before)
    return found.departed.map(({ id, reason }) => `${id} ${reason}`)
  }
  const both = fleetOf([instance('a'), instance('b')])
  assert.deepEqual(await departed(fleetOf([instance('a')]), both), ['b gone'])
  const known = { departed: [{ id: 'b', reason: 'killed', at: now }] }
  assert.deepEqual(await departed(fleetOf([instance('a')], known), both), ['b killed'])
  for (const [at, expected] of [
    [now, ['b gone']],
    [now + 1, []],
  ] as const)
    assert.deepEqual(await departed(fleetOf([instance('a')], { at }), fleetOf([instance('a')], { departed: [left] })), [
      ...expected,
    ])
  assert.deepEqual(await departed(both, fleetOf([], { departed: [left] })), [], 'it is back')
})

test('remembers the load of present instances only, of the last 60 refreshes', async () => {
  const page = quiet()
  for (let rps = 1; rps <= 61; rps++) await page.call('rememberLoad', fleetOf([instance('a', { rps }), instance('b')]))
  assert.deepEqual(
    await page.value('[sparks.get("a").length, sparks.get("a")[0], sparks.get("a").at(-1)]'),
    [60, 2, 61],
  )
  await page.call('rememberLoad', fleetOf([instance('a')]))
  assert.deepEqual(await page.value('[...sparks.keys()]'), ['a'])
})

test('lists versions newest first, each with its share of the requests', async () => {
  const page = quiet()
  const versions = await page.call<{ name: string; count: number; share?: number }[]>(
    'versionsOf',
    fleetOf([
      ...['a', 'b', 'c'].map((id) => instance(id, { rps: 30 })),
      instance('d', { version: '2', rps: 10, startedAt: now - 1_000 }),
    ]),
  )
  assert.deepEqual(
    versions.map(({ name, count, share }) => [name, count, share]),
    [
      ['2', 1, 0.1],
      ['1', 3, 0.9],
    ],
  )
})

test('shows the steps of the newest deploy only', async () => {
  const page = quiet()
  const event = (kind: string, text = '') => ({ kind, text })
  const events = [
    event('deploy-step', '2 of 3: traffic'),
    event('lost'),
    event('deploy-step', '1 of 3: start'),
    event('deploy-started'),
    event('deploy-finished'),
    event('deploy-step', '9 of 9: end'),
  ]
  const last = await page.call<{ kind: string; text: string }[]>('lastDeploy', events)
  assert.deepEqual(
    last.map(({ kind, text }) => `${kind} ${text}`.trim()),
    ['deploy-started', 'deploy-step 1 of 3: start', 'deploy-step 2 of 3: traffic'],
  )
  assert.deepEqual(await page.call('stepOf', last), { step: 2, total: 3 })
})

test('counts an instance that is silent, fails a check, or fails requests as urgent', async () => {
  const page = quiet()
  const urgency = (given: object): Promise<number> =>
    page.value(`fleet = ${JSON.stringify(fleetOf([]))}, urgency(${JSON.stringify(instance('a', given))})`)
  const all = [{}, { errorRate: 0.02 }, { state: 'draining' }, { failing: ['mail'] }, { state: 'closed' }]
  const values = []
  for (const given of all) values.push(await urgency(given))
  assert.deepEqual(values, [0, 1, 2, 3, 4])
  assert.equal(await urgency({ lastSeen: now - 7_000 }), 3)
})

test('the share of failed requests of a route counts its requests', async () => {
  const page = quiet()
  const row = { requests: 200, serverErrors: 3, clientErrors: 20 }
  assert.deepEqual([await page.call('failureShare', row), await page.call('clientShare', row)], [0.015, 0.1])
  assert.equal(await page.call('failureShare', { requests: 0, serverErrors: 0 }), 0)
})
