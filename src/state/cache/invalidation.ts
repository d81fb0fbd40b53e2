import { randomUUID } from 'node:crypto'
import type { SharedCacheStore } from './store.ts'

export type InvalidationKind = 'key' | 'tag'

/** A message between instances; `filled` wakes the instances that wait for a load. */
export interface CacheMessage {
  readonly kind: InvalidationKind | 'filled'
  readonly name: string
  readonly from: string
}

/** Maximum of pending invalidations. Beyond it the oldest are dropped, and the values concerned expire by themselves. */
const maxPending = 10_000
const retryMs = 1_000

/**
 * Applies invalidations to Redis and publishes them to the peers. An invalidation that fails because Redis is unavailable
 * is pending: it is retried until it succeeds, and until then the value in Redis is ignored.
 */
export class Invalidations {
  readonly from: string = randomUUID()
  readonly #shared: SharedCacheStore
  readonly #publish: (message: CacheMessage) => Promise<void>
  readonly #pending = new Map<string, () => Promise<void>>()
  #retry: NodeJS.Timeout | undefined

  constructor(shared: SharedCacheStore, publish: (message: CacheMessage) => Promise<void>) {
    this.#shared = shared
    this.#publish = publish
  }

  /** Never rejects. `change` is the write to Redis. @default deletes the value or the tag's stamp */
  async send(
    kind: InvalidationKind,
    name: string,
    change: () => Promise<void> = () => this.#drop(kind, name),
  ): Promise<void> {
    try {
      await change()
      await this.#publish({ kind, name, from: this.from })
    } catch {
      this.#sendLater(kind, name)
    }
  }

  wake(key: string): void {
    // An instance that misses the message polls anyway.
    this.#publish({ kind: 'filled', name: key, from: this.from }).catch(() => undefined)
  }

  isPending(kind: InvalidationKind, name: string): boolean {
    return this.#pending.size > 0 && this.#pending.has(`${kind}:${name}`)
  }

  close(): void {
    clearTimeout(this.#retry)
    this.#pending.clear()
  }

  #drop(kind: InvalidationKind, name: string): Promise<void> {
    return kind === 'key' ? this.#shared.delete(name) : this.#shared.deleteStamp(name)
  }

  #sendLater(kind: InvalidationKind, name: string): void {
    if (this.#pending.size >= maxPending) this.#pending.delete(this.#pending.keys().next().value as string)
    this.#pending.set(`${kind}:${name}`, async () => {
      await this.#drop(kind, name)
      await this.#publish({ kind, name, from: this.from })
    })
    this.#retry ??= setTimeout(() => void this.#flush(), retryMs).unref()
  }

  async #flush(): Promise<void> {
    try {
      for (const [id, write] of [...this.#pending]) {
        await write()
        // A newer invalidation may have taken its place meanwhile.
        if (this.#pending.get(id) === write) this.#pending.delete(id)
      }
    } catch {
      // Redis is still unavailable.
    }
    this.#retry = this.#pending.size > 0 ? setTimeout(() => void this.#flush(), retryMs).unref() : undefined
  }
}
