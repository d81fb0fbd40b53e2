/** What one sampling interval has seen. */
export interface Sample {
  /** Its length. */
  readonly seconds: number
  /** Share of the interval in which the event loop was busy, 0 to 1. */
  readonly utilization: number
  /** Requests whose answer began in it, and their mean time until then in ms. */
  readonly answered: number
  readonly meanMs: number
  /** Requests that had no answer yet, when there were most. */
  readonly waiting: number
}

/** Busy all the time, but for the moments in which a timer is looked at. */
const saturation = 0.98
/** So many samples in a row must be saturated: a burst, a collection of garbage or a start is no overload. */
const saturatedSamples = 2
/** A limit is not judged by fewer answers than these. */
const enough = 10
/** The least mean time is forgotten after one to two of these, in samples of 250 ms: five minutes. */
const generation = 1_200
/** So many samples the best rate is kept: ten seconds. */
const rates = 40
const smallest = 4
const largest = 10_000
const smoothing = 0.5

/**
 * How many requests this process should have at work at a time, found by watching how long they take: the gradient
 * limit of Netflix' concurrency-limits, which goes back to TCP Vegas (Brakmo, O'Malley and Peterson, SIGCOMM 1994).
 *
 * The mean time of an interval is held against the least mean of the last minutes. As long as it stays within the
 * queueing time that is granted, the limit grows by its own square root; beyond, it shrinks in proportion, by half at
 * most. It does not grow while it is not used, because what nobody has tried proves nothing. Nor does it fall below
 * what the best recent rate needs by Little's law, as in BBR (Cardwell et al., ACM Queue 2016): if answers are slow for
 * another reason, such as a busy machine, less at work would only mean fewer answers.
 */
export class ConcurrencyLimit {
  readonly #targetMs: number
  #limit = 20
  #least = Number.POSITIVE_INFINITY
  #leastBefore = Number.POSITIVE_INFINITY
  #age = 0
  #busy = 0
  readonly #rates: number[] = []

  /** @param targetMs how long a request may wait beyond what it takes anyway, in milliseconds */
  constructor(targetMs: number) {
    this.#targetMs = targetMs
  }

  get value(): number {
    return this.#limit
  }

  /** Whether the event loop has had no idle moment for at least half a second. */
  get saturated(): boolean {
    return this.#busy >= saturatedSamples
  }

  sample({ seconds, utilization, answered, meanMs, waiting }: Sample): void {
    this.#busy = utilization >= saturation ? this.#busy + 1 : 0
    if (++this.#age % generation === 0) {
      this.#leastBefore = this.#least
      this.#least = Number.POSITIVE_INFINITY
    }
    this.#rates.push(answered / seconds)
    if (this.#rates.length > rates) this.#rates.shift()
    if (answered < enough) return
    this.#least = Math.min(this.#least, meanMs)
    const good = Math.min(this.#least, this.#leastBefore) + this.#targetMs
    const gradient = Math.max(0.5, Math.min(1, good / meanMs))
    const wanted = this.#limit * gradient + Math.sqrt(this.#limit)
    if (wanted > this.#limit && waiting < this.#limit / 2) return
    const next = this.#limit * (1 - smoothing) + wanted * smoothing
    const needed = (Math.max(...this.#rates) * good) / 1_000
    this.#limit = Math.max(smallest, Math.min(largest, Math.max(next, needed)))
  }
}
