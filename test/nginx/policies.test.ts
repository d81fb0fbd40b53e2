import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../helpers/until.ts'
import { startUpstream, targets } from '../helpers/upstream.ts'
import { check, type Front, isAtLeast, render, startFront, tally } from './front.ts'

const [a, b, c] = [await startUpstream('a'), await startUpstream('b'), await startUpstream('c')]
const all = targets(a, b, c)
/** One address per client. They differ in the third byte, the last one that ip_hash uses. */
const client = (number: number): { headers: Record<string, string> } => ({
  headers: { 'x-forwarded-for': `10.${number % 7}.${number}.9`, 'user-agent': `client ${number}` },
})
/** One worker, because each worker keeps its own round-robin state. */
const start = (values: Record<string, string | number>): Promise<Front> => startFront({ FLEET_WORKERS: 1, ...values })

test('round-robin distributes requests evenly', async () => {
  const front = await start({ FLEET_TARGETS: all })
  assert.deepEqual(await tally(30, () => front.send('/')), { a: 10, b: 10, c: 10 })
})

test('weighted distributes requests in proportion to the weights', async () => {
  const front = await start({ FLEET_POLICY: 'weighted', FLEET_TARGETS: `${a.target}=3 ${b.target}=2 ${c.target}` })
  assert.deepEqual(await tally(60, () => front.send('/')), { a: 30, b: 20, c: 10 })
})

test('least-conn respects weights', async () => {
  const front = await start({ FLEET_POLICY: 'least-conn', FLEET_TARGETS: `${a.target}=3 ${b.target}` })
  assert.deepEqual(await tally(40, () => front.send('/')), { a: 30, b: 10 })
})

test('least-conn avoids a busy instance', async () => {
  const front = await start({ FLEET_POLICY: 'least-conn', FLEET_TARGETS: all })
  const held = Promise.withResolvers<() => void>()
  b.handler = ({ url }, response) => (url === '/held' ? held.resolve(() => response.end('ok')) : response.end('ok'))
  // Round-robin while all are idle: one of three requests reaches b.
  let responded = 0
  const waiting = [1, 2, 3].map(() => front.send('/held').finally(() => responded++))
  const release = await held.promise
  await until(() => responded === 2, { what: 'the other two' })
  const counts = await tally(20, () => front.send('/'))
  release()
  await Promise.all(waiting)
  assert.deepEqual(Object.keys(counts).sort(), ['a', 'c'])
})

test('ip-hash keeps a client on its instance and distributes clients', async () => {
  const front = await start({ FLEET_POLICY: 'ip-hash', FLEET_TARGETS: all, FLEET_TRUSTED_PROXY: '127.0.0.1' })
  const firsts = await Promise.all(Array.from({ length: 30 }, (_, number) => front.send('/', client(number))))
  assert.deepEqual([...new Set(firsts.map(({ by }) => by))].sort(), ['a', 'b', 'c'])
  for (const [number, first] of firsts.entries()) {
    assert.deepEqual(Object.keys(await tally(3, () => front.send('/', client(number)))), [first.by])
  }
  // The trusted proxy is a setting, too.
  assert.equal(a.seen.at(-1)?.headers['x-forwarded-for']?.includes(','), false)
})

test('random-two distributes requests', async () => {
  const front = await start({ FLEET_POLICY: 'random-two', FLEET_TARGETS: all })
  const counts = await tally(180, () => front.send('/'))
  // 60 each on average, minus six standard deviations: √(180 × ⅓ × ⅔) ≈ 6.3.
  for (const name of ['a', 'b', 'c']) assert.ok((counts[name] ?? 0) > 20, JSON.stringify(counts))
})

test('sticky keeps a client on its first instance until that instance is removed', async () => {
  const front = await start({ FLEET_POLICY: 'sticky', FLEET_TARGETS: all })
  // Cookies are random and hash shares uneven: with only 30 clients, one instance may get none.
  const clients = await Promise.all(
    Array.from({ length: 100 }, async () => {
      const { by, headers } = await front.send('/')
      const [cookie = ''] = headers['set-cookie'] ?? []
      assert.match(cookie, /^fleet_route=[0-9a-f]{32}; Path=\/; HttpOnly; SameSite=Lax$/)
      return { by, headers: { cookie: cookie.split(';')[0] ?? '' } }
    }),
  )
  assert.deepEqual([...new Set(clients.map(({ by }) => by))].sort(), ['a', 'b', 'c'])
  for (const { by, headers } of clients) {
    const again = await front.send('/', { headers })
    assert.deepEqual([again.by, again.headers['set-cookie']], [by, undefined])
  }
  await front.reload({ FLEET_TARGETS: targets(a, c) })
  for (const { by, headers } of clients.filter(({ by }) => by !== 'b')) {
    assert.equal((await front.send('/', { headers })).by, by)
  }
})

const native = { FLEET_POLICY: 'sticky-native', FLEET_TARGETS: all }
const hasSticky = await isAtLeast([1, 29, 6])

test('sticky-native keeps a client on its instance', {
  skip: hasSticky ? false : 'this nginx is older than 1.29.6',
}, async () => {
  const front = await start(native)
  const { by, headers } = await front.send('/')
  const cookie = headers['set-cookie']?.[0]?.split(';')[0] ?? ''
  assert.deepEqual(await tally(9, () => front.send('/', { headers: { cookie } })), { [by ?? '']: 9 })
})

test('nginx rejects sticky-native before 1.29.6', {
  skip: hasSticky ? 'this nginx is 1.29.6 or newer' : false,
}, async () => {
  assert.match((await check(await render(native))) ?? '', /unknown directive "sticky"/)
})

test('a backup serves only while all the others are down', async () => {
  const front = await start({
    FLEET_TARGETS: `${a.target} ${b.target} ${c.target}=backup`,
    FLEET_FAIL_TIMEOUT: '1s',
  })
  assert.deepEqual(await tally(20, () => front.send('/')), { a: 10, b: 10 })
  await a.stop()
  assert.deepEqual(Object.keys(await tally(10, () => front.send('/'))), ['b'])
  await b.stop()
  assert.deepEqual(Object.keys(await tally(10, () => front.send('/'))), ['c'])
  await Promise.all([a.start(), b.start()])
  for (const name of ['a', 'b']) {
    await until(async () => (await front.send('/')).by === name, { what: `${name} to be back` })
  }
  assert.equal((await tally(10, () => front.send('/'))).c, undefined)
})

for (const policy of ['ip-hash', 'random-two', 'sticky']) {
  test(`nginx rejects ${policy} with a backup instead of ignoring the backup`, async () => {
    const folder = await render({ FLEET_POLICY: policy, FLEET_TARGETS: `${a.target} ${b.target}=backup` })
    assert.match((await check(folder)) ?? '', /does not support parameter "backup"/)
  })
}

test('a canary gets its share of clients, always the same ones, and a cookie overrides it', async () => {
  const front = await start({
    FLEET_TARGETS: targets(a, b),
    FLEET_CANARY: 'on',
    FLEET_CANARY_PERCENT: 20,
    FLEET_CANARY_TARGETS: c.target,
  })
  const { c: canary = 0 } = await tally(500, (turn) => front.send('/', client(turn)))
  console.log(`canary: ${canary} of 500 clients at 20 %`)
  // Five standard deviations: √(500 × 0.2 × 0.8) ≈ 9.
  assert.ok(Math.abs(canary - 100) < 45, `${canary} of 500`)
  const { c: some } = await tally(50, () => front.send('/', client(1)))
  assert.ok(some === undefined || some === 50, 'a client changed sides')
  const tester = (side: string) => () => front.send('/', { headers: { cookie: `fleet_canary=${side}` } })
  assert.deepEqual(await tally(10, tester('always')), { c: 10 })
  assert.deepEqual(await tally(10, tester('never')), { a: 5, b: 5 })
  // A canary that is down costs no request.
  await c.stop()
  assert.deepEqual(Object.keys(await tally(10, tester('always'))).sort(), ['a', 'b'])
  await c.start()
})

test('keeps connections to instances open', async () => {
  const front = await start({ FLEET_TARGETS: a.target })
  const from = a.seen.length
  await tally(20, () => front.send('/'))
  assert.equal(new Set(a.seen.slice(from).map(({ socket }) => socket)).size, 1)
  assert.equal(a.seen.at(-1)?.headers.connection, undefined)
})

test('nginx-render rejects a malformed list with a message', async () => {
  await assert.rejects(
    render({ FLEET_TARGETS: '127.0.0.1:1;include' }),
    /a target must be HOST:PORT.*127\.0\.0\.1:1;include/,
  )
  await assert.rejects(render({ FLEET_TARGETS: '' }), /FLEET_TARGETS must list the instances/)
})
