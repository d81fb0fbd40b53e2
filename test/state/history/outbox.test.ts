import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { NewEvent } from '../../../src/state/history/events.ts'
import { MemoryHistoryStore } from '../../../src/state/history/memory-store.ts'
import { Outbox } from '../../../src/state/history/outbox.ts'
import type { RecordOptions } from '../../../src/state/history/store.ts'

test('keeps a bounded number of events while the store is unavailable, with their times', async () => {
  let time = 0
  const store = new MemoryHistoryStore()
  const record = store.record.bind(store)
  let isDown = true
  store.record = async (event, options) => {
    if (isDown) throw new Error('unavailable')
    return record(event, options)
  }
  const outbox = new Outbox(store, () => ++time)
  for (let i = 1; i <= 100 + 20; i++) outbox.add({ kind: 'deploy-step', text: `${i}` })
  await outbox.send()
  isDown = false
  await outbox.send()
  const events = await store.events({ limit: 500 })
  assert.equal(events.length, 100)
  assert.deepEqual([events[0]?.text, events[0]?.at, events.at(-1)?.text], ['120', 120, '21'])
  outbox.add({ kind: 'deploy-step', text: 'last' })
  await outbox.send()
  assert.equal((await store.events({ limit: 1 }))[0]?.text, 'last')
})

test('loses no event by trying again and again while the store is unavailable', async () => {
  const recorded: string[] = []
  let isDown = true
  const record = async ({ text }: NewEvent): Promise<boolean> => {
    if (isDown) throw new Error('unavailable')
    return recorded.push(text) > 0
  }
  const outbox = new Outbox({ record } as never, () => 1)
  for (const text of ['1', '2', '3']) {
    outbox.add({ kind: 'deploy-step', text })
    for (let i = 0; i < 3; i++) await outbox.send()
  }
  isDown = false
  await outbox.send()
  assert.deepEqual(recorded, ['1', '2', '3'])
})

test('records events at once, in their order and with their options, and each of them once', async () => {
  const store = new MemoryHistoryStore()
  const recorded: [text: string, options: RecordOptions | undefined][] = []
  const replies: (() => void)[] = []
  store.record = (event: NewEvent, options) => {
    recorded.push([event.text, options])
    return new Promise((resolve) => replies.push(() => resolve(true)))
  }
  const outbox = new Outbox(store, () => 1)
  const add = (text: string, options?: RecordOptions): void => outbox.add({ kind: 'deploy-step', text }, options)
  add('1', { process: 'a 1' })
  add('2', { limit: 'x' })
  assert.deepEqual(recorded, [['1', { process: 'a 1' }]])
  let isSent = false
  const sending = outbox.send().then(() => {
    isSent = true
  })
  replies.shift()?.()
  await turn()
  assert.deepEqual(recorded[1], ['2', { limit: 'x' }])
  assert.equal(isSent, false)
  // The event that is being recorded is the oldest, and is dropped from those that wait.
  for (let i = 3; i < 100 + 3; i++) add(`${i}`)
  for (let i = 0; i < 100 + 1; i++) {
    replies.shift()?.()
    await turn()
  }
  await sending
  assert.deepEqual(
    recorded.map(([text]) => Number(text)),
    Array.from({ length: 100 + 2 }, (_, i) => i + 1),
  )
})
