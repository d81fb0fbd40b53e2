import type { TestContext } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { Peer } from '../../../src/instance/identity.ts'
import { FleetKeys } from '../../../src/state/registry/fleet-keys.ts'
import type { HeartbeatReply } from '../../../src/state/registry/redis-directory.ts'
import { SignedEntries } from '../../../src/state/registry/signed-entries.ts'

const start = Date.parse('2026-01-01T00:00:00Z')
export const leaseMs = 3_000
export const entries = (secret = 's'.repeat(32)) => new SignedEntries(new FleetKeys([secret], 'registry', 'shop'))
export const peer = (id: string): Peer =>
  ({
    ...{ id, host: `host-${id}`, pid: 7, port: 3000, weight: 100, pool: 'default', state: 'serving' },
    ...{ version: '1', color: 'blue', startedAt: 'now', lastSeen: '', failing: [] },
    ...{ rps: 0, errorRate: 0, p95: 0, eventLoopUtilization: 0, memory: 0, degraded: [], checks: [] },
  }) as Peer
export const stored = (id: string, boot = 'boot', by = entries()): string => `${boot} ${by.seal(boot, peer(id)).facts}`

export const nothing: HeartbeatReply = {
  ...{ epoch: 'e', version: 1, full: false, changed: false, reset: false },
  ...{ changes: new Map(), removed: new Map(), loads: new Map() },
}

/** Time that passes only when the test says so. Heartbeats vary by up to 5 %; here they do not. */
export function clock(t: TestContext) {
  let now = 0
  t.mock.method(performance, 'now', () => now)
  t.mock.method(Date, 'now', () => start + now)
  t.mock.method(Math, 'random', () => 0.5)
  t.mock.timers.enable({ apis: ['setTimeout'] })
  return async (ms: number): Promise<void> => {
    now += ms
    t.mock.timers.tick(ms)
    for (let i = 0; i < 3; i++) await turn()
  }
}
