import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { MemoryHistoryStore } from '../../../src/state/history/memory-store.ts'
import { minuteMs, stepMs } from '../../../src/state/history/store.ts'
import { back, counts } from './contract.ts'

const begun = 1_800_000_000_000
const write = {
  start: begun,
  process: '',
  back,
  routes: new Map([['GET /', counts({ r: 1 })]]),
  counts: counts({ n: 1 }),
}

/** A clock that the test sets, in ms since `begun`. */
function clock(t: TestContext): (ms: number) => void {
  let now = begun
  t.mock.method(Date, 'now', () => now)
  return (ms) => {
    now = begun + ms
  }
}

test('keeps steps for an hour and two minutes, minutes for a day and five minutes, routes for 18 minutes', async (t) => {
  const at = clock(t)
  const store = new MemoryHistoryStore()
  const kept = async (): Promise<boolean[]> => {
    const [step, minute] = [await store.counts('step', [begun]), await store.counts('minute', [begun])]
    const routes = await store.routes([begun])
    return [step[0], minute[0], routes[0]].map((each) => each !== undefined)
  }
  await store.add(write)
  for (const [ms, expected] of [
    [1_080_000, [true, true, true]],
    [1_080_001, [true, true, false]],
    [3_720_000, [true, true, false]],
    [3_720_001, [false, true, false]],
    [86_700_000, [false, true, false]],
    [86_700_001, [false, false, false]],
  ] as const) {
    at(ms)
    assert.equal(await store.add({ ...write, start: begun + ms }), begun + ms)
    assert.deepEqual(await kept(), expected, `${ms} ms`)
  }
})

test('keeps a minute by the step with the most instances', async () => {
  const store = new MemoryHistoryStore()
  for (const start of [begun, begun, begun + stepMs]) await store.add({ ...write, start })
  assert.equal((await store.counts('minute', [begun]))[0]?.get('i'), 2)
  assert.equal((await store.counts('minute', [begun + minuteMs]))[0], undefined)
})

test('forgets the end of a process after a day, and the oldest of many', async (t) => {
  const at = clock(t)
  const store = new MemoryHistoryStore()
  const end = (process: string) => store.record({ kind: 'lost', text: process }, { process })
  await end('a')
  at(86_400_000)
  await store.add(write)
  assert.deepEqual(await store.unrecorded(['a']), [])
  at(86_400_001)
  await store.add(write)
  assert.deepEqual(await store.unrecorded(['a']), ['a'])
  for (let i = 0; i < 2_002; i++) await end(`${i}`)
  await store.add(write)
  assert.deepEqual(await store.unrecorded(['0', '1', '2', '2001']), ['0', '1'])
})

test('limits the events of one name anew after a minute', async (t) => {
  const at = clock(t)
  const store = new MemoryHistoryStore()
  const record = () => store.record({ kind: 'limit-hit', text: 'x' }, { limit: 'x' })
  for (let i = 0; i < 20; i++) assert.equal(await record(), true)
  at(59_999)
  assert.equal(await record(), false)
  at(60_000)
  assert.equal(await record(), true)
})

test('keeps the newest 2,000 events, in their order even if the clock is set back', async (t) => {
  const at = clock(t)
  const store = new MemoryHistoryStore()
  for (let i = 0; i < 2_005; i++) {
    if (i === 3) at(1)
    if (i === 4) at(-1_000)
    await store.record({ kind: 'deploy-step', text: `${i}` })
  }
  const all = await store.events({ limit: 5_000 })
  assert.deepEqual([all.length, all[0]?.text, all.at(-1)?.text], [2_000, '2004', '5'])
  assert.deepEqual([all.at(-1)?.id, all[0]?.id], [`${begun + 1}-2`, `${begun + 1}-2001`])
  const texts = async (query: object) => (await store.events({ limit: 2, ...query })).map(({ text }) => text)
  assert.deepEqual(await texts({ before: `${begun + 1}-10` }), ['12', '11'])
  assert.deepEqual(await texts({ after: `${begun + 1}-9` }), ['14', '13'])
  assert.deepEqual(await texts({ before: `${begun + 2}-0` }), ['2004', '2003'])
  assert.deepEqual(await texts({ after: `${begun}-99999` }), ['6', '5'])
})
