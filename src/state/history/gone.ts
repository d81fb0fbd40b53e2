import type { Peer } from '../../instance/identity.ts'
import { lastEntryOf, processOf } from './own-events.ts'
import type { HistoryStore } from './store.ts'

/**
 * Peers record the loss of an instance after this time, each at a different moment, ms. An instance that leaves by itself has
 * recorded its end by then, and of many peers only the first ones write.
 */
const [leastMs, spreadMs] = [1_000, 2_000]
/** Largest number of lost instances that are recorded together. */
const maxLost = 500

interface Vanished {
  readonly peer: Peer
  readonly isSeen: boolean
}

/** Records `lost` for peers that have vanished without a word, once for all instances of the fleet; `stopped` if they drained. */
export class LostPeers {
  readonly #store: HistoryStore
  readonly #now: () => number
  #vanished: Vanished[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(store: HistoryStore, now: () => number) {
    this.#store = store
    this.#now = now
  }

  /** @param isSeen whether this instance has seen it, so that its `lastSeen` says more than when it signed its entry */
  vanished(peer: Peer, isSeen: boolean): void {
    if (this.#vanished.length < maxLost) this.#vanished.push({ peer, isSeen })
    this.#timer ??= setTimeout(() => this.#record(), leastMs + Math.random() * spreadMs).unref()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#vanished = []
  }

  async #record(): Promise<void> {
    const byProcess = new Map(this.#vanished.map((each) => [processOf(each.peer), each]))
    this.#vanished = []
    this.#timer = undefined
    try {
      for (const process of await this.#store.unrecorded([...byProcess.keys()])) {
        const { peer, isSeen } = byProcess.get(process) as Vanished
        const entry = lastEntryOf(peer)
        const { id: instance, version, pool } = peer
        const seconds = Math.max(0, Math.round((this.#now() - entry.lastSeen) / 1_000))
        const seen = isSeen ? `last seen ${seconds} s before` : 'gone before the present instances started'
        // An instance that keeps no history, such as one of an earlier version, says nothing when it stops.
        const hasDrained = entry.state === 'draining'
        const [kind, text] = hasDrained ? (['stopped', `was draining, ${seen}`] as const) : (['lost', seen] as const)
        await this.#store.record({ kind, instance, version, pool, text, entry }, { process })
      }
    } catch {
      // Redis is unavailable. The other peers may still record it.
    }
  }
}
