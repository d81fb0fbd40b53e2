import { randomBytes } from 'node:crypto'
import type { FleetKeys } from '../registry/fleet-keys.ts'

/** Why a message is ignored; the label values of the metric. */
export const messageRejections = ['unsigned', 'signature', 'stale', 'replayed', 'too_large'] as const
export type MessageRejection = (typeof messageRejections)[number]

/** Maximum age of a message, including the difference of the two clocks, ms. */
const maxAgeMs = 60_000
/** Maximum of senders in memory. Only processes with the secret add to them. */
const maxSenders = 4096
const head = /^1 ([\w-]{43}) ([\w-]{16}) (\d{1,15}) (\d{1,15}) /

/** The message numbers received from one sender: a bit window below the highest one. */
class Window {
  /** Time of its last message, by its own clock. */
  sentAt = 0
  #highest = -1
  readonly #bits = new Uint32Array(windowSize / 32)

  /** @returns `false` for a repeated number, or one below the window */
  take(number: number): boolean {
    if (number > this.#highest) {
      // Messages from before the first one received were not meant for this process.
      if (this.#highest < 0) this.#bits.fill(0xffff_ffff)
      else if (number - this.#highest >= windowSize) this.#bits.fill(0)
      else for (let skipped = this.#highest + 1; skipped <= number; skipped++) this.#set(skipped, false)
      this.#highest = number
      this.#set(number, true)
      return true
    }
    if (number <= this.#highest - windowSize || this.#has(number)) return false
    this.#set(number, true)
    return true
  }

  #has(number: number): boolean {
    return ((this.#word(number) >>> (number % 32)) & 1) === 1
  }

  #set(number: number, value: boolean): void {
    const bit = 1 << (number % 32)
    const at = Math.floor((number % windowSize) / 32)
    this.#bits[at] = value ? this.#word(number) | bit : this.#word(number) & ~bit
  }

  #word(number: number): number {
    return this.#bits[Math.floor((number % windowSize) / 32)] as number
  }
}

/** In a Cluster, messages of one sender use several nodes and can overtake each other by this many. */
const windowSize = 1024

/**
 * Messages on a Redis channel, to which other applications may publish. Each carries a signature, its sender, a rising number
 * and the time, so forged and replayed messages are ignored.
 *
 *     1 SIGNATURE SENDER NUMBER TIME JSON
 */
export class SignedMessages {
  readonly #keys: FleetKeys
  readonly #maxBytes: number
  readonly #sender = randomBytes(12).toString('base64url')
  readonly #senders = new Map<string, Window>()
  #number = 0

  constructor(keys: FleetKeys, maxBytes: number) {
    this.#keys = keys
    this.#maxBytes = maxBytes
  }

  /** @returns the signed text of a message */
  seal(channel: string, json: string): string {
    const rest = `${this.#sender} ${this.#number++} ${Date.now()} ${json}`
    return `1 ${this.#keys.sign(channel, rest)} ${rest}`
  }

  /** @returns the message, or why it is ignored */
  open(channel: string, text: string): { json: string } | { rejected: MessageRejection } {
    // Compares characters, which are never more than bytes; a header has about 100.
    if (text.length > this.#maxBytes + 128) return { rejected: 'too_large' }
    const found = head.exec(text)
    if (!found) return { rejected: 'unsigned' }
    const [all, signature, sender, number, sentAt] = found as unknown as [string, string, string, string, string]
    if (!this.#keys.verify(signature, channel, text.slice(signature.length + 3))) return { rejected: 'signature' }
    if (Math.abs(Date.now() - Number(sentAt)) > maxAgeMs) return { rejected: 'stale' }
    const window = this.#window(sender)
    window.sentAt = Math.max(window.sentAt, Number(sentAt))
    return window.take(Number(number)) ? { json: text.slice(all.length) } : { rejected: 'replayed' }
  }

  #window(sender: string): Window {
    const before = this.#senders.get(sender)
    if (before) return before
    if (this.#senders.size >= maxSenders) this.#forget()
    const window = new Window()
    this.#senders.set(sender, window)
    return window
  }

  /** Drops senders whose messages would be stale by now, or else the oldest sender. */
  #forget(): void {
    const oldest = Date.now() - 2 * maxAgeMs
    for (const [sender, { sentAt }] of this.#senders) if (sentAt < oldest) this.#senders.delete(sender)
    if (this.#senders.size < maxSenders) return
    const [first] = this.#senders.keys()
    if (first !== undefined) this.#senders.delete(first)
  }
}
