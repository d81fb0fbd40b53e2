/** Upper bounds of the histogram's buckets, in milliseconds. */
const bounds = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000]

/** Counts of the requests of a pool. A request only increments numbers; the text is made when it is scraped. */
export class RequestTimes {
  /** By status class: index 1 is 1xx; index 5 includes statuses above 599. */
  readonly #responses = [0, 0, 0, 0, 0, 0]
  /** One more than `bounds`, for durations above all of them. */
  readonly #buckets: number[] = [...bounds, 0].map(() => 0)
  #count = 0
  #sumMs = 0
  /** Requests whose client disconnected before the response started. */
  #aborted = 0

  /** @param status 0 when the client disconnected before the response started */
  observe(status: number, ms: number): void {
    if (status === 0) this.#aborted++
    // RFC 9110 section 15: statuses above 599 are treated as 5xx.
    else bump(this.#responses, Math.min(5, Math.floor(status / 100)))
    this.#count++
    this.#sumMs += ms
    let bucket = 0
    while (bucket < bounds.length && ms > (bounds[bucket] as number)) bucket++
    bump(this.#buckets, bucket)
  }

  responses(pool: Labels): Sample[] {
    const classes = [1, 2, 3, 4, 5].map((digit) => sample({ code: `${digit}xx`, ...pool }, this.#responses[digit] ?? 0))
    return [...classes, sample({ code: 'aborted', ...pool }, this.#aborted)]
  }

  durations(pool: Labels): Sample[] {
    let below = 0
    const histogram = bounds.map((bound, i) => {
      below += this.#buckets[i] ?? 0
      return sample({ le: String(bound / 1000), ...pool }, below, '_bucket')
    })
    return [
      ...histogram,
      sample({ le: '+Inf', ...pool }, this.#count, '_bucket'),
      sample(pool, this.#sumMs / 1000, '_sum'),
      sample(pool, this.#count, '_count'),
    ]
  }
}

export type Labels = Readonly<Record<string, string>>
/** The end of a line: what follows the name of the metric, and the value. */
export type Sample = readonly [labels: string, value: number]

export const noLabels: Labels = Object.freeze({})

export const sample = (labels: Labels, value: number, suffix = ''): Sample => {
  const pairs = Object.entries(labels).map(([name, text]) => `${name}="${text.replace(/[\\"\n]/g, '\\$&')}"`)
  return [`${suffix}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''}`, value]
}

const bump = (counts: number[], i: number): void => {
  counts[i] = (counts[i] as number) + 1
}
