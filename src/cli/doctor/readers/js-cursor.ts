import type { Token } from './js-tokens.ts'

const deepest = 100
const closing: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' }

/** A place among the tokens of a file. */
export class Cursor {
  protected readonly tokens: readonly Token[]
  protected at = 0
  #depth: number

  constructor(tokens: readonly Token[], depth = 0) {
    this.tokens = tokens
    this.#depth = depth
  }

  protected get depth(): number {
    return this.#depth
  }

  /** @throws SyntaxError below a hundred levels, before the stack of this process ends */
  protected deeper<T>(read: () => T): T {
    if (++this.#depth > deepest) throw new SyntaxError('it is nested too deeply')
    const value = read()
    this.#depth--
    return value
  }

  /** Goes on behind what was not understood: to the next comma, or the end of the list. */
  protected recover(end: string): void {
    while (this.at < this.tokens.length && !this.is(',') && !this.is(end)) {
      if (this.is('(') || this.is('[') || this.is('{')) this.skipGroup()
      else this.at++
    }
  }

  protected skipGroup(): void {
    const open: string[] = []
    do {
      const token = this.next()
      if (!token) return
      if (token.kind !== 'sign') continue
      if (Object.hasOwn(closing, token.text)) open.push(closing[token.text] as string)
      else if (token.text === open.at(-1)) open.pop()
    } while (open.length > 0)
  }

  protected peek(): Token | undefined {
    return this.tokens[this.at]
  }

  protected next(): Token | undefined {
    return this.tokens[this.at++]
  }

  protected is(text: string): boolean {
    const token = this.peek()
    return token?.text === text && (token.kind === 'sign' || token.kind === 'name')
  }

  protected takes(...texts: string[]): boolean {
    const start = this.at
    for (const text of texts) {
      if (!this.is(text)) {
        this.at = start
        return false
      }
      this.at++
    }
    return true
  }
}
