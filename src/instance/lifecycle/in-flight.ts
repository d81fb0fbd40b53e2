import type { IncomingMessage, ServerResponse } from 'node:http'

export type Response = ServerResponse<IncomingMessage>
export type Request = { readonly method: string; readonly routeOptions: { readonly url?: string } }

/** A request that is in flight until its response is closed. */
export class InFlight {
  /** Whether its response has not started. */
  waiting = false
  startedAt = 0
  request: Request | undefined
  response: Response | undefined
  /** Counts the requests in flight on its connection. */
  connection: { inFlight: number } | undefined
  previous: InFlight | undefined
  next: InFlight | undefined
}

const entryOf = Symbol('fleet.in-flight')
type WithEntry = Response & { [entryOf]?: InFlight }

/**
 * The requests in flight, as a linked list whose entries are reused. A Map that fills and empties with every request
 * reallocates its table each time: 150 bytes in V8's old generation, which are freed only after megabytes have piled
 * up. New entries would be promoted to the old generation as well, and a promoted entry keeps its request and response
 * alive.
 */
export class InFlightList {
  #last: InFlight | undefined
  #unused: InFlight | undefined
  #size = 0

  get size(): number {
    return this.#size
  }

  get(response: Response): InFlight | undefined {
    return (response as WithEntry)[entryOf]
  }

  add(response: Response, connection?: { inFlight: number }): InFlight {
    const entry = this.#unused ?? new InFlight()
    this.#unused = entry.next
    entry.waiting = false
    entry.startedAt = performance.now()
    entry.response = response
    entry.connection = connection
    entry.previous = this.#last
    entry.next = undefined
    if (this.#last) this.#last.next = entry
    this.#last = entry
    this.#size++
    ;(response as WithEntry)[entryOf] = entry
    return entry
  }

  remove(entry: InFlight): void {
    const { previous, next, response } = entry
    if (previous) previous.next = next
    if (next) next.previous = previous
    else this.#last = previous
    this.#size--
    if (response) (response as WithEntry)[entryOf] = undefined
    entry.request = undefined
    entry.response = undefined
    entry.connection = undefined
    entry.previous = undefined
    entry.next = this.#unused
    this.#unused = entry
  }

  /** Oldest first. */
  entries(): InFlight[] {
    const all: InFlight[] = []
    for (let entry = this.#last; entry; entry = entry.previous) all.push(entry)
    return all.reverse()
  }
}
