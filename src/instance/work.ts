import type { IncomingMessage, ServerResponse } from 'node:http'

export type Response = ServerResponse<IncomingMessage>

/** A request that is at work, until its response is closed. */
export interface Work {
  /** Its answer has not begun. */
  waiting: boolean
  readonly request: { readonly method: string; readonly routeOptions: { readonly url?: string } }
  readonly response: Response
  readonly startedAt: number
  /** Its neighbours in the list. */
  before: Work | undefined
  after: Work | undefined
}

const own = Symbol('fleet.work')
type WithWork = Response & { [own]?: Work }

/**
 * The requests at work, as a list that runs through them. A Map that fills and empties with every request makes its table
 * anew each time: 150 bytes that V8 takes from the old part of the heap, where they lie until megabytes of them do.
 */
export class WorkList implements Iterable<Work> {
  #last: Work | undefined
  #size = 0

  get size(): number {
    return this.#size
  }

  get(response: Response): Work | undefined {
    return (response as WithWork)[own]
  }

  add(response: Response, request: Work['request']): void {
    const work: Work = {
      waiting: true,
      request,
      response,
      startedAt: performance.now(),
      before: this.#last,
      after: undefined,
    }
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
    ;(response as WithWork)[own] = undefined
    // What is over must not keep what came after it: the collector of young objects takes all old ones for alive.
    work.before = undefined
    work.after = undefined
  }

  /** The oldest first; what happens to the list meanwhile does not matter. */
  [Symbol.iterator](): IterableIterator<Work> {
    const all: Work[] = []
    for (let work = this.#last; work; work = work.before) all.push(work)
    return all.reverse().values()
  }
}
