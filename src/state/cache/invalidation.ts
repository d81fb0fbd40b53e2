import { randomUUID } from 'node:crypto'
import type { SharedStore } from './shared.ts'

export type Kind = 'key' | 'tag'

/** What instances tell each other; `filled` wakes those who wait for another's load. */
export interface Message {
  readonly kind: Kind | 'filled'
  readonly name: string
  readonly from: string
}

/** Most invalidations to make up for; beyond it the oldest are given up, and such values live out their time. */
const maxOwed = 10_000
const retryMs = 1_000

/**
 * Tells Redis and the peers what is no longer valid. What could not be told because Redis was away is owed: it is told
 * when Redis is back, and until then what Redis holds there counts as nothing.
 */
export class Invalidations {
  readonly from: string = randomUUID()
  readonly #shared: SharedStore
  readonly #publish: (message: Message) => Promise<void>
  readonly #owed = new Map<string, () => Promise<void>>()
  #retry: NodeJS.Timeout | undefined

  constructor(shared: SharedStore, publish: (message: Message) => Promise<void>) {
    this.#shared = shared
    this.#publish = publish
  }

  /** Never rejects. `change` is what is done in Redis; by default, what was there goes. */
  async tell(kind: Kind, name: string, change: () => Promise<void> = () => this.#drop(kind, name)): Promise<boolean> {
    try {
      await change()
      await this.#publish({ kind, name, from: this.from })
      return true
    } catch {
      this.#owe(kind, name)
      return false
    }
  }

  wake(key: string): void {
    // Who misses it asks again anyway.
    this.#publish({ kind: 'filled', name: key, from: this.from }).catch(() => undefined)
  }

  owes(kind: Kind, name: string): boolean {
    return this.#owed.size > 0 && this.#owed.has(`${kind}:${name}`)
  }

  close(): void {
    clearTimeout(this.#retry)
    this.#owed.clear()
  }

  #drop(kind: Kind, name: string): Promise<void> {
    return kind === 'key' ? this.#shared.delete(name) : this.#shared.deleteStamp(name)
  }

  #owe(kind: Kind, name: string): void {
    if (this.#owed.size >= maxOwed) this.#owed.delete(this.#owed.keys().next().value as string)
    this.#owed.set(`${kind}:${name}`, async () => {
      await this.#drop(kind, name)
      await this.#publish({ kind, name, from: this.from })
    })
    this.#retry ??= setTimeout(() => void this.#pay(), retryMs).unref()
  }

  async #pay(): Promise<void> {
    try {
      for (const [id, debt] of [...this.#owed]) {
        await debt()
        // A newer debt of the same name is another one.
        if (this.#owed.get(id) === debt) this.#owed.delete(id)
      }
    } catch {
      // Redis is still away.
    }
    this.#retry = this.#owed.size > 0 ? setTimeout(() => void this.#pay(), retryMs).unref() : undefined
  }
}
