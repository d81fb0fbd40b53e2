/** A heap member, with its index in the heap. */
export interface Placed {
  place: number
}

/** A binary heap whose members can be repositioned after their order changed. O(log n). */
export class Heap<T extends Placed> {
  readonly #members: T[]
  readonly #before: (a: T, b: T) => boolean

  /** @param before true when `a` belongs nearer to the top than `b` */
  constructor(members: readonly T[], before: (a: T, b: T) => boolean) {
    this.#members = [...members]
    this.#before = before
    this.#members.forEach((member, place) => {
      member.place = place
    })
    for (let place = (this.#members.length >> 1) - 1; place >= 0; place--) this.#sink(place)
  }

  /** In heap order. */
  get members(): readonly T[] {
    return this.#members
  }

  get top(): T {
    return this.#members[0] as T
  }

  /** Repositions `member` after its order changed. */
  moved(member: T): void {
    const { place } = member
    this.#rise(place)
    if (member.place === place) this.#sink(place)
  }

  #rise(start: number): void {
    const member = this.#members[start] as T
    let place = start
    while (place > 0) {
      const parent = (place - 1) >> 1
      const above = this.#members[parent] as T
      if (!this.#before(member, above)) break
      this.#put(above, place)
      place = parent
    }
    this.#put(member, place)
  }

  #sink(start: number): void {
    const member = this.#members[start] as T
    const { length } = this.#members
    let place = start
    for (let child = 2 * place + 1; child < length; child = 2 * place + 1) {
      const right = child + 1
      if (right < length && this.#before(this.#members[right] as T, this.#members[child] as T)) child = right
      const below = this.#members[child] as T
      if (!this.#before(below, member)) break
      this.#put(below, place)
      place = child
    }
    this.#put(member, place)
  }

  #put(member: T, place: number): void {
    this.#members[place] = member
    member.place = place
  }
}
