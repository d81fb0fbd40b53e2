import type { TestContext } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { LockAttempt, LockStore } from '../../../src/state/locks/store.ts'
import { mockTimers } from '../../helpers/clock.ts'

/** Time that passes only when the test says so. */
export function clock(t: TestContext) {
  let now = 1_000
  t.mock.method(performance, 'now', () => now)
  mockTimers(t)
  return {
    async pass(ms: number): Promise<void> {
      now += ms
      t.mock.timers.tick(ms)
      await turn()
    },
  }
}

/** A store that records the commands it gets, and whose replies the test sets. */
export class FakeStore implements LockStore {
  readonly commands: string[] = []
  onCommand = (_command: string): void => {}
  attempt: LockAttempt = { token: 1 }
  renewed: () => Promise<boolean> = async () => true
  released: () => Promise<boolean> = async () => true
  /** Called before each attempt; may throw. */
  onAcquire = (): void => {}

  async acquire(_name: string, _owner: string, ttlMs: number): Promise<LockAttempt> {
    this.#record(`acquire ${ttlMs}`)
    this.onAcquire()
    return this.attempt
  }
  renew(_name: string, _owner: string, ttlMs: number): Promise<boolean> {
    this.#record(`renew ${ttlMs}`)
    return this.renewed()
  }
  release(): Promise<boolean> {
    this.#record('release')
    return this.released()
  }

  #record(command: string): void {
    this.commands.push(command)
    this.onCommand(command)
  }
}
