import type { IncomingMessage, ServerResponse } from 'node:http'

export type Response = ServerResponse<IncomingMessage>
export type Request = { readonly method: string; readonly routeOptions: { readonly url?: string } }

/** A request that is at work, until its response is closed. */
export class Work {
  /** Its answer has not begun. */
  waiting = false
  startedAt = 0
  request: Request | undefined
  response: Response | undefined
  /** Its connection, which counts what is at work on it. */
  connection: { atWork: number } | undefined
  /** Its neighbours in the list. */
  before: Work | undefined
  after: Work | undefined
}

const own = Symbol('fleet.work')
type WithWork = Response & { [own]?: Work }

/**
 * The requests at work, as a list that runs through them. A Map that fills and empties with every request makes its table
 * anew each time: 150 bytes that V8 takes from the old part of the heap, where they lie until megabytes of them do. The
 * entries are used again for the same reason: V8 comes to take them for long-lived, and an old one that is over would keep
 * its request and its response with it.
 */
export class WorkList {
  #last: Work | undefined
  #unused: Work | undefined
  #size = 0

  get size(): number {
    return this.#size
  }

  get(response: Response): Work | undefined {
    return (response as WithWork)[own]
  }

  add(response: Response, request: Request, connection?: { atWork: number }): void {
    const work = this.#unused ?? new Work()
    this.#unused = work.after
    work.waiting = true
    work.startedAt = performance.now()
    work.request = request
    work.response = response
    work.connection = connection
    work.before = this.#last
    work.after = undefined
    if (this.#last) this.#last.after = work
    this.#last = work
    this.#size++
    ;(response as WithWork)[own] = work
  }

  remove(work: Work): void {
    const { before, after, response } = work
    if (before) before.after = after
    if (after) after.before = before
    else this.#last = before
    this.#size--
    if (response) (response as WithWork)[own] = undefined
    work.request = undefined
    work.response = undefined
    work.connection = undefined
    work.before = undefined
    work.after = this.#unused
    this.#unused = work
  }

  /** The oldest first. */
  requests(): { request: Request; startedAt: number }[] {
    return this.#all().flatMap(({ request, startedAt }) => (request ? [{ request, startedAt }] : []))
  }

  /** The oldest first. */
  responses(): Response[] {
    return this.#all().flatMap(({ response }) => response ?? [])
  }

  #all(): Work[] {
    const all: Work[] = []
    for (let work = this.#last; work; work = work.before) all.push(work)
    return all.reverse()
  }
}
