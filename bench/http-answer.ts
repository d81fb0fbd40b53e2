/** The head of an answer, as far as it is needed to count it. */
export interface Answer {
  readonly status: number
  readonly keepAlive: boolean
  header(name: string): string | undefined
}

const endOfHead = Buffer.from('\r\n\r\n')
const endOfChunks = Buffer.from('0\r\n\r\n')

/**
 * Reads HTTP/1.1 answers off a connection that has one request under way at a time. It knows no more than what tells
 * where an answer ends: a load generator must cost less than what it measures.
 */
export class Answers {
  /** The request was a HEAD: there is no body. */
  head = false
  readonly #answered: (answer: Answer) => void
  #pending: Buffer | undefined
  #answer: (Answer & { length: number; chunked: boolean; bodyAt: number }) | undefined

  constructor(answered: (answer: Answer) => void) {
    this.#answered = answered
  }

  reset(): void {
    this.#pending = undefined
    this.#answer = undefined
  }

  read(chunk: Buffer): void {
    const data = this.#pending ? Buffer.concat([this.#pending, chunk]) : chunk
    if (!this.#answer) {
      const end = data.indexOf(endOfHead)
      if (end === -1) {
        this.#pending = data
        return
      }
      this.#answer = this.#parse(data.toString('latin1', 0, end), end + 4)
      // 103 Early Hints and the like come before the answer.
      if (this.#answer.status < 200) {
        this.#answer = undefined
        this.#pending = undefined
        if (data.length > end + 4) this.read(data.subarray(end + 4))
        return
      }
    }
    const answer = this.#answer
    const body = data.length - answer.bodyAt
    const done = answer.chunked ? body >= 5 && data.subarray(-5).equals(endOfChunks) : body >= answer.length
    if (done) this.#finish()
    else this.#pending = data
  }

  /** The connection was closed: an answer of no given length ends here. */
  end(): void {
    if (this.#answer?.length === Number.POSITIVE_INFINITY && !this.#answer.chunked) this.#finish()
    this.reset()
  }

  #finish(): void {
    const answer = this.#answer as Answer
    this.reset()
    this.#answered(answer)
  }

  #parse(head: string, bodyAt: number): Answer & { length: number; chunked: boolean; bodyAt: number } {
    const status = Number(head.slice(9, 12))
    const lower = head.toLowerCase()
    const header = (name: string): string | undefined => {
      const at = lower.indexOf(`\r\n${name}:`)
      if (at === -1) return undefined
      const end = head.indexOf('\r', at + 2)
      return head.slice(at + name.length + 3, end === -1 ? undefined : end).trim()
    }
    const empty = this.head || status === 204 || status === 304
    const length = header('content-length')
    const chunked = !empty && length === undefined && header('transfer-encoding')?.toLowerCase() === 'chunked'
    return {
      status,
      header,
      keepAlive: header('connection')?.toLowerCase() !== 'close',
      length: empty ? 0 : length === undefined ? Number.POSITIVE_INFINITY : Number(length),
      chunked,
      bodyAt,
    }
  }
}
