/** The parts of a response head that are needed to count it. */
export interface ResponseHead {
  readonly status: number
  readonly keepAlive: boolean
  header(name: string): string | undefined
}

const endOfHead = Buffer.from('\r\n\r\n')
const endOfChunks = Buffer.from('0\r\n\r\n')

/**
 * Reads HTTP/1.1 responses from a connection with one request in flight at a time. It parses only what is needed to find
 * the end of a response: a load generator must cost less than the program it measures.
 */
export class ResponseReader {
  /** The request was a HEAD: there is no body. */
  head = false
  readonly #onResponse: (response: ResponseHead) => void
  #pending: Buffer | undefined
  #response: (ResponseHead & { length: number; chunked: boolean; bodyAt: number }) | undefined

  constructor(onResponse: (response: ResponseHead) => void) {
    this.#onResponse = onResponse
  }

  reset(): void {
    this.#pending = undefined
    this.#response = undefined
  }

  read(chunk: Buffer): void {
    const data = this.#pending ? Buffer.concat([this.#pending, chunk]) : chunk
    if (!this.#response) {
      const end = data.indexOf(endOfHead)
      if (end === -1) {
        this.#pending = data
        return
      }
      this.#response = this.#parse(data.toString('latin1', 0, end), end + 4)
      // 103 Early Hints and similar responses precede the final one.
      if (this.#response.status < 200) {
        this.#response = undefined
        this.#pending = undefined
        if (data.length > end + 4) this.read(data.subarray(end + 4))
        return
      }
    }
    const response = this.#response
    const body = data.length - response.bodyAt
    const done = response.chunked ? body >= 5 && data.subarray(-5).equals(endOfChunks) : body >= response.length
    if (done) this.#finish()
    else this.#pending = data
  }

  /** The connection was closed, which ends a response without a length. */
  end(): void {
    if (this.#response?.length === Number.POSITIVE_INFINITY && !this.#response.chunked) this.#finish()
    this.reset()
  }

  #finish(): void {
    const response = this.#response as ResponseHead
    this.reset()
    this.#onResponse(response)
  }

  #parse(head: string, bodyAt: number): ResponseHead & { length: number; chunked: boolean; bodyAt: number } {
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
