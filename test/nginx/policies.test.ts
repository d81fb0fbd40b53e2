import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../helpers/until.ts'
import { check, type Front, isAtLeast, render, startFront, tally } from './front.ts'
import { startUpstream, targets } from './upstream.ts'

const [a, b, c] = [await startUpstream('a'), await startUpstream('b'), await startUpstream('c')]
const all = targets(a, b, c)
/** One client each: addresses that differ in their third byte, which is all that ip_hash looks at. */
const client = (number: number): { headers: Record<string, string> } => ({
  headers: { 'x-forwarded-for': `10.${number % 7}.${number}.9`, 'user-agent': `client ${number}` },
})
/** One worker, for each counts its turns on its own. */
const start = (values: Record<string, string | number>): Promise<Front> => startFront({ FLEET_WORKERS: 1, ...values })

test('round robin gives everyone the same', async () => {
  const front = await start({ FLEET_TARGETS: all })
  assert.deepEqual(await tally(30, () => front.ask('/')), { a: 10, b: 10, c: 10 })
})

test('weights are shares', async () => {
  const front = await start({ FLEET_POLICY: 'weighted', FLEET_TARGETS: `${a.target}=3 ${b.target}=2 ${c.target}` })
  assert.deepEqual(await tally(60, () => front.ask('/')), { a: 30, b: 20, c: 10 })
})

test('weights hold for every method that knows them', async () => {
  const front = await start({ FLEET_POLICY: 'least-conn', FLEET_TARGETS: `${a.target}=3 ${b.target}` })
  assert.deepEqual(await tally(40, () => front.ask('/')), { a: 30, b: 10 })
})

test('least connections passes by whoever is busy', async () => {
  const front = await start({ FLEET_POLICY: 'least-conn', FLEET_TARGETS: all })
  const held = Promise.withResolvers<() => void>()
  b.answer = ({ url }, response) => (url === '/held' ? held.resolve(() => response.end('ok')) : response.end('ok'))
  // In turn while all are idle: one of three reaches b.
  let answered = 0
  const waiting = [1, 2, 3].map(() => front.ask('/held').finally(() => answered++))
  const release = await held.promise
  await until(() => answered === 2, { what: 'the other two' })
  const counts = await tally(20, () => front.ask('/'))
  release()
  await Promise.all(waiting)
  assert.deepEqual(Object.keys(counts).sort(), ['a', 'c'])
})

test('ip_hash keeps a client with its instance, and spreads clients', async () => {
  const front = await start({ FLEET_POLICY: 'ip-hash', FLEET_TARGETS: all, FLEET_TRUSTED_PROXY: '127.0.0.1' })
  const firsts = await Promise.all(Array.from({ length: 30 }, (_, number) => front.ask('/', client(number))))
  assert.deepEqual([...new Set(firsts.map(({ by }) => by))].sort(), ['a', 'b', 'c'])
  for (const [number, first] of firsts.entries()) {
    assert.deepEqual(Object.keys(await tally(3, () => front.ask('/', client(number)))), [first.by])
  }
  // Who is believed for an address is a setting, too.
  assert.equal(a.seen.at(-1)?.headers['x-forwarded-for']?.includes(','), false)
})

test('random two spreads', async () => {
  const front = await start({ FLEET_POLICY: 'random-two', FLEET_TARGETS: all })
  const counts = await tally(180, () => front.ask('/'))
  // 60 each on average, and six standard deviations less: √(180 × ⅓ × ⅔) ≈ 6.3.
  for (const name of ['a', 'b', 'c']) assert.ok((counts[name] ?? 0) > 20, JSON.stringify(counts))
})

test('a sticky client stays from its first request on, and moves only when its instance goes', async () => {
  const front = await start({ FLEET_POLICY: 'sticky', FLEET_TARGETS: all })
  // Their cookies are random, and shares of the hash uneven: of so few as 30 one instance may well get none.
  const clients = await Promise.all(
    Array.from({ length: 100 }, async () => {
      const { by, headers } = await front.ask('/')
      const [cookie = ''] = headers['set-cookie'] ?? []
      assert.match(cookie, /^fleet_route=[0-9a-f]{32}; Path=\/; HttpOnly; SameSite=Lax$/)
      return { by, headers: { cookie: cookie.split(';')[0] ?? '' } }
    }),
  )
  assert.deepEqual([...new Set(clients.map(({ by }) => by))].sort(), ['a', 'b', 'c'])
  for (const { by, headers } of clients) {
    const again = await front.ask('/', { headers })
    assert.deepEqual([again.by, again.headers['set-cookie']], [by, undefined])
  }
  await front.reload({ FLEET_TARGETS: targets(a, c) })
  for (const { by, headers } of clients.filter(({ by }) => by !== 'b')) {
    assert.equal((await front.ask('/', { headers })).by, by)
  }
})

const native = { FLEET_POLICY: 'sticky-native', FLEET_TARGETS: all }
const hasSticky = await isAtLeast(1, 29, 6)

test('the native sticky method is there for those who have it', {
  skip: hasSticky ? false : 'this nginx is older than 1.29.6',
}, async () => {
  const front = await start(native)
  const { by, headers } = await front.ask('/')
  const cookie = headers['set-cookie']?.[0]?.split(';')[0] ?? ''
  assert.deepEqual(await tally(9, () => front.ask('/', { headers: { cookie } })), { [by ?? '']: 9 })
})

test('rejects the native sticky method where nginx does not know it', {
  skip: hasSticky ? 'this nginx is 1.29.6 or newer' : false,
}, async () => {
  assert.match((await check(await render(native))) ?? '', /unknown directive "sticky"/)
})

test('a backup serves only while all the others are down', async () => {
  const front = await start({
    FLEET_TARGETS: `${a.target} ${b.target} ${c.target}=backup`,
    FLEET_FAIL_TIMEOUT: '1s',
  })
  assert.deepEqual(await tally(20, () => front.ask('/')), { a: 10, b: 10 })
  await a.stop()
  assert.deepEqual(Object.keys(await tally(10, () => front.ask('/'))), ['b'])
  await b.stop()
  assert.deepEqual(Object.keys(await tally(10, () => front.ask('/'))), ['c'])
  await Promise.all([a.start(), b.start()])
  for (const name of ['a', 'b']) {
    await until(async () => (await front.ask('/')).by === name, { what: `${name} to be back` })
  }
  assert.equal((await tally(10, () => front.ask('/'))).c, undefined)
})

for (const policy of ['ip-hash', 'random-two', 'sticky']) {
  test(`${policy} with a backup is refused, not ignored`, async () => {
    const folder = await render({ FLEET_POLICY: policy, FLEET_TARGETS: `${a.target} ${b.target}=backup` })
    assert.match((await check(folder)) ?? '', /does not support parameter "backup"/)
  })
}

test('a canary gets its share of clients, always the same ones, and testers choose', async () => {
  const front = await start({
    FLEET_TARGETS: targets(a, b),
    FLEET_CANARY: 'on',
    FLEET_CANARY_PERCENT: 20,
    FLEET_CANARY_TARGETS: c.target,
  })
  const { c: canary = 0 } = await tally(500, (turn) => front.ask('/', client(turn)))
  console.log(`canary: ${canary} of 500 clients at 20 %`)
  // Five standard deviations: √(500 × 0.2 × 0.8) ≈ 9.
  assert.ok(Math.abs(canary - 100) < 45, `${canary} of 500`)
  const { c: some } = await tally(50, () => front.ask('/', client(1)))
  assert.ok(some === undefined || some === 50, 'a client changed sides')
  const tester = (side: string) => () => front.ask('/', { headers: { cookie: `fleet_canary=${side}` } })
  assert.deepEqual(await tally(10, tester('always')), { c: 10 })
  assert.deepEqual(await tally(10, tester('never')), { a: 5, b: 5 })
  // A canary that is down costs nobody anything.
  await c.stop()
  assert.deepEqual(Object.keys(await tally(10, tester('always'))).sort(), ['a', 'b'])
  await c.start()
})

test('connections to instances are kept', async () => {
  const front = await start({ FLEET_TARGETS: a.target })
  const from = a.seen.length
  await tally(20, () => front.ask('/'))
  assert.equal(new Set(a.seen.slice(from).map(({ socket }) => socket)).size, 1)
  assert.equal(a.seen.at(-1)?.headers.connection, undefined)
})

test('a list that is none is refused in words', async () => {
  await assert.rejects(
    render({ FLEET_TARGETS: '127.0.0.1:1;include' }),
    /a target must be HOST:PORT.*127\.0\.0\.1:1;include/,
  )
  await assert.rejects(render({ FLEET_TARGETS: '' }), /FLEET_TARGETS must list the instances/)
})
