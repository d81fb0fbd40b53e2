import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { fleetOf, instance, now, type PageInMemory, quiet } from './page-in-memory.ts'

test('the filters of instances all apply, and every word of the search', async () => {
  const instances = [
    instance('a', { host: 'north', zone: 'z1' }),
    instance('b', { host: 'north', version: '2', state: 'draining', failing: ['mail'] }),
    instance('c', { host: 'south', pool: 'api' }),
  ]
  const departed = [{ id: 'd', reason: 'lost', host: 'north', detail: 'last seen 4 s before', pool: 'default' }]
  for (const [given, expected] of [
    [{}, 'abcd'],
    [{ pool: 'api' }, 'c'],
    [{ version: '2' }, 'b'],
    [{ zone: 'z1' }, 'a'],
    [{ state: 'serving' }, 'ac'],
    [{ state: 'departed' }, 'd'],
    [{ state: 'lost' }, 'd'],
    [{ text: 'NORTH' }, 'abd'],
    [{ text: 'north mail' }, 'b'],
    [{ text: 'seen', pool: 'default' }, 'd'],
    [{ text: 'north', pool: 'api' }, ''],
  ] as const) {
    const found = await quiet(given).call<{ id: string }[][]>('matchingRows', { instances, departed })
    assert.equal(
      found
        .flat()
        .map(({ id }) => id)
        .join(''),
      expected,
      JSON.stringify(given),
    )
  }
})

test('the panels of dependencies are as bad as their worst part', async () => {
  const page = quiet()
  const check = (critical: boolean, failing: string[]) => ({ name: `${critical}`, critical, failing, instances: 2 })
  const server = (state: string) => ({ state, pool: null })
  const tones = async (checks: object[], database: object | null = null): Promise<string[]> => {
    await page.value(`dependencies = ${JSON.stringify({ redis: null, database, checks })}, views.dependencies.render()`)
    return page.value(`[panels.Checks.dataset.tone, ${database ? 'panels.Database.dataset.tone' : '""'}]`)
  }
  assert.deepEqual(await tones([check(true, []), check(false, [])]), ['good', ''])
  assert.deepEqual(await tones([check(true, []), check(false, ['a'])]), ['warn', ''])
  assert.deepEqual(await tones([check(true, ['a']), check(false, ['a'])]), ['bad', ''])
  const database = (primary: string, replica: string) => ({ primary: server(primary), replicas: [server(replica)] })
  assert.equal((await tones([], database('ok', 'ok')))[1], 'good')
  assert.equal((await tones([], database('ok', 'down')))[1], 'warn', 'reads go to the others')
  assert.equal((await tones([], database('down', 'ok')))[1], 'bad')
})

test('checks that pass are listed after those that fail', async () => {
  const page = quiet()
  const check = (name: string, ...failing: string[]) => ({ name, critical: false, failing, instances: 2 })
  await page.value('var listed; checkTable.update = (rows) => { listed = rows.map(({ name }) => name) }; 0')
  const checks = [check('a'), check('b', 'web-1'), check('c')]
  const all = { redis: null, database: null, checks }
  await page.value(`dependencies = ${JSON.stringify(all)}, views.dependencies.render()`)
  assert.deepEqual(await page.value('listed'), ['b', 'a', 'c'])
})

test('the memory of Redis has its limit, if there is one', async () => {
  const page = quiet()
  await page.value('var facts; showPanel = (_, __, given) => { facts = new Map(given) }; 0')
  for (const [maxMemory, expected] of [
    [0, '50 MB, no limit'],
    [200e6, '50 MB of 200 MB (25 %)'],
  ] as const) {
    await page.call('showRedis', { state: 'ok', usedMemory: 50e6, maxMemory })
    assert.equal(await page.value('facts.get("Memory")'), expected)
  }
})

test('the progress of a deploy is shown until its end', async () => {
  const page = quiet()
  const events = [
    { kind: 'deploy-started', version: '2', text: '3 steps', at: now },
    { kind: 'deploy-step', text: '1 of 3: start', at: now },
  ]
  await page.call('showDeploy', events)
  assert.equal(page.element('#deploy-progress').hidden, false)
  await page.call('showDeploy', [...events, { kind: 'deploy-failed', text: 'x', at: now + 5_000 }])
  assert.equal(page.element('#deploy-progress').hidden, true)
  assert.equal(page.element('#deploy-summary').textContent, 'Version 2: failed after 5 s, step 1 of 3')
})

test('the view of routes says how many are left out', async () => {
  const page = quiet()
  page.element('#route-filters').elements = { text: { value: '' } }
  for (const [omitted, expected] of [
    [0, 'of the last 15 min'],
    [1, 'of the last 15 min; 1 rarer route left out'],
  ] as const) {
    await page.value(`routes = { routes: [], omitted: ${omitted}, windowMs: 900_000 }, views.routes.render()`)
    assert.equal(page.element('#route-note').textContent, expected)
  }
})

test('at most 60 instances are shown as cards', async () => {
  const page = quiet()
  await page.value('var keys; showCard = () => {}; 0')
  await page.value('reconcile = (_, given) => new Map((keys = given).map((key) => [key, key])); 0')
  await page.call(
    'renderCards',
    Array.from({ length: 50 }, (_, i) => instance(`a${i}`)),
    [...Array.from({ length: 20 }, (_, i) => ({ id: `b${i}`, reason: 'lost', at: now }))],
  )
  assert.deepEqual(await page.value('[keys.length, keys[59]]'), [60, `b9 ${now}`])
})

describe('the data of a view', () => {
  const point = (at: number) => ({ at, requests: 1 })

  test('is read once per half step, from the last complete point, and no older than the range', async () => {
    const page = quiet()
    const at = (time: number): Promise<unknown> =>
      page.value(`fleet = { ...${JSON.stringify(fleetOf([]))}, at: ${time}, receivedAt: performance.now() }, 0`)
    await at(now)
    page.respond = () => ({ body: { stepMs: 10_000, points: [point(now - 20_000), point(now - 10_000)] } })
    await page.call('loadHistory')
    await at(now + 4_000)
    await page.call('loadHistory')
    assert.equal(page.requests.length, 1)
    page.respond = () => ({ body: { stepMs: 10_000, points: [{ ...point(now - 10_000), requests: 2 }, point(now)] } })
    await at(now + 6_000)
    await page.call('loadHistory')
    assert.deepEqual(
      page.requests.map(({ path }) => path),
      ['fleet/history?range=15m', `fleet/history?range=15m&since=${now - 20_000}`],
    )
    const points = (): Promise<number[][]> =>
      page.value('histories.get("15m").points.map(({ at, requests }) => [at, requests])')
    assert.deepEqual(await points(), [
      [now - 20_000, 1],
      [now - 10_000, 2],
      [now, 1],
    ])
    page.respond = () => ({ body: { stepMs: 10_000, points: [point(now + 890_000)] } })
    await at(now + 895_000)
    await page.call('loadHistory')
    assert.deepEqual(
      (await points()).map(([time]) => time),
      [now - 10_000, now, now + 890_000],
    )
    page.element('#range').querySelector = () => ({ value: '1h' })
    await page.call('loadHistory')
    assert.equal(page.requests.at(-1)?.path, 'fleet/history?range=1h', 'another range has points of its own')
  })

  test('stays if it cannot be read, and the view says why', async () => {
    const page = quiet()
    await page.value(`fleet = ${JSON.stringify(fleetOf([]))}`)
    page.respond = (path) => ({
      body: path.endsWith('routes') ? { routes: [], omitted: 7, windowMs: 1 } : { checks: [] },
    })
    for (const view of ['routes', 'dependencies']) await page.value(`views.${view}.refresh()`)
    for (const [status, body] of [
      [404, {}],
      [503, { message: 'Redis is unavailable' }],
    ] as const) {
      page.respond = () => ({ status, body })
      for (const view of ['routes', 'dependencies']) await page.value(`views.${view}.refresh()`)
      assert.deepEqual(await page.value('[routes.omitted, dependencies.checks]'), [7, []])
    }
  })

  test('is asked for with a limit of 5 s', async () => {
    const page = quiet()
    await page.call('load', 'routes', 'routes')
    await page.call('send', 'drain', { instance: 'a' }).catch(() => {})
    assert.deepEqual(page.limits, [5_000, 5_000])
  })
})

describe('the timeline', () => {
  const ids = (page: PageInMemory): Promise<string[]> => page.value('timeline.events.map(({ id }) => id)')
  const events = (from: number, count: number) => ({
    body: { events: Array.from({ length: count }, (_, i) => ({ id: `${from - i}-0`, at: now, kind: 'ready' })) },
  })

  test('adds the newest events once, and starts again with a whole page if it has missed some', async () => {
    const page = quiet()
    page.respond = () => events(500, 100)
    await Promise.all([page.call('loadEvents'), page.call('loadEvents')])
    assert.deepEqual(
      page.requests.map(({ path }) => path),
      ['fleet/events?limit=100'],
      'one request at a time',
    )
    page.respond = () => events(510, 20)
    await page.call('loadEvents')
    assert.equal((await ids(page)).length, 110)
    page.requests.length = 0
    page.respond = (path) => (path.endsWith('=20') ? events(540, 20) : events(540, 100))
    await page.call('loadEvents')
    assert.deepEqual(
      page.requests.map(({ path }) => path),
      ['fleet/events?limit=20', 'fleet/events?limit=100'],
    )
    assert.deepEqual([(await ids(page)).length, new Set(await ids(page)).size], [140, 140])
    page.respond = (path) => (path.endsWith('=20') ? events(900, 20) : events(900, 100))
    await page.call('loadEvents')
    assert.deepEqual([(await ids(page)).length, (await ids(page)).at(-1)], [100, '801-0'], 'without a gap')
  })

  test('adds older events on request, unless the list has changed meanwhile, and keeps 2,000', async () => {
    const page = quiet()
    const older = page.element('#older').listeners.get('click') as () => Promise<void>
    page.respond = () => events(9_000, 100)
    await page.call('loadEvents')
    page.respond = () => events(8_900, 100)
    await older()
    assert.equal(page.requests.at(-1)?.path, 'fleet/events?limit=100&before=8901-0')
    assert.deepEqual([(await ids(page)).length, await page.value('timeline.complete')], [200, false])
    page.respond = async () => {
      await page.value('timeline.events = timeline.events.slice(0, 50)')
      return events(8_800, 100)
    }
    await older()
    assert.equal((await ids(page)).length, 50)
    page.respond = () => events(8_950, 99)
    await older()
    assert.deepEqual([(await ids(page)).length, await page.value('timeline.complete')], [149, true])
    await page.value('timeline.events = merge(timeline.events, Array.from({ length: 3000 }, (_, i) => ({ id: i })))')
    assert.equal((await ids(page)).length, 2_000)
  })

  test('shows the kinds of events that are chosen', async () => {
    const page = quiet()
    await page.value('timeline.events = [{ id: "1", kind: "killed" }, { id: "2", kind: "deploy-step" }]')
    assert.deepEqual(await page.value('matchingEvents().map(({ id }) => id)'), ['2'])
    const tones = ['killed', 'lost', 'check-failed', 'deploy-failed', 'stopped', 'ready', 'of-a-later-version']
    const shown = []
    for (const kind of tones) shown.push(await page.call('eventTone', kind))
    assert.deepEqual(shown, ['bad', 'bad', 'bad', 'bad', 'none', 'good', 'none'])
  })
})
