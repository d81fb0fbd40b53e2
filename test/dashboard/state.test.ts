import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fields, presence, rowOf } from '../../src/dashboard/state.ts'
import type { Peer } from '../../src/instance/identity.ts'
import type { Departure } from '../../src/state/history/departed.ts'

const peer = (id: string, more: Partial<Peer> = {}): Peer =>
  ({ id, startedAt: new Date(1_000).toISOString(), failing: [], degraded: [], checks: [], ...more }) as unknown as Peer

test('an instance has each of its values in the column of that name', () => {
  const values = {
    ...{
      id: 'a',
      host: 'h',
      port: 1,
      pid: 2,
      version: 'v',
      color: 'blue',
      pool: 'p',
      region: 'r',
      zone: 'z',
      weight: 3,
    },
    ...{ state: 'draining', rps: 4, errorRate: 0.5, p95: 6, memory: 7 },
  } as const
  const rest = {
    eventLoopUtilization: 0.8,
    failing: ['x'],
    degraded: ['y', 'z'],
    lastSeen: new Date(2_000).toISOString(),
  }
  const row = rowOf(peer('a', { ...values, ...rest } as Partial<Peer>))
  assert.deepEqual(Object.fromEntries(fields.map((name, i) => [name, row[i]])), {
    ...values,
    ...{ startedAt: 1_000, lastSeen: 2_000, loop: 0.8, failing: ['x', 'y', 'z'] },
  })
  const bare = rowOf(peer('a', { startedAt: 'unknown', lastSeen: '' }))
  for (const name of ['port', 'region', 'zone', 'startedAt', 'lastSeen'])
    assert.equal(bare[fields.indexOf(name)], null, name)
})

test('shows an instance either as live or as gone', () => {
  const departure = (id: string, reason: Departure['reason'], at = 2_000): Departure =>
    ({ id, reason, at }) as unknown as Departure
  const split = (peers: readonly Peer[], ...departed: Departure[]): string[][] => {
    const { live, gone } = presence(peers, departed)
    return [live.map(({ id }) => id), gone.map(({ id }) => id)]
  }
  const both = [peer('a'), peer('b')]
  assert.deepEqual(split(both, departure('a', 'killed')), [['b'], ['a']], 'its lease has not ended')
  assert.deepEqual(split(both, departure('a', 'lost')), [['a', 'b'], []], 'it was suspended')
  assert.deepEqual(split(both, departure('a', 'stopped', 500)), [['a', 'b'], []], 'a new process')
  assert.deepEqual(split(both, departure('a', 'stopped', 1_000)), [['a', 'b'], []], 'when another one ended')
  assert.deepEqual(split(both, departure('a', 'stopped', 1_001)), [['b'], ['a']])
  assert.deepEqual(split([peer('a', { startedAt: 'now' })], departure('c', 'lost')), [['a'], ['c']])
})
