import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Dispatcher } from 'undici'
import type { FleetError } from '../base/errors.ts'
import { asFleetError, errorPage } from './error-page.ts'
import { nominatedBy, responseHeaders } from './headers.ts'
import { writePlainHead } from './plain-head.ts'
import type { PickInput } from './policies/index.ts'
import { endAnswer } from './request-body.ts'
import { type AnswerHead, type HeadHandler, ResponseHead } from './wire/response-head.ts'

type Controller = Dispatcher.DispatchController
type Headers = Record<string, string | string[]>

/** What the answers of one proxy share. */
export interface AnswerContext {
  readonly closing: boolean
  /** A client that takes nothing for this long is cut off, in milliseconds. */
  readonly sendTimeoutMs: number
  /** Lines of a head that tell a client how long its connection is kept. */
  readonly persistence: string
}

/** A body up to this length that comes at once with its headers is written together with them, in bytes. */
const smallBytes = 8192

/**
 * The way back: an upstream's answer into a client's response. What comes within one turn of the event loop is written
 * in one piece where that is possible: most answers are small, and a write to a socket is what costs most.
 */
export class Answer implements HeadHandler {
  readonly #context: AnswerContext
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #input: PickInput
  #controller: Controller | undefined
  /** The headers wait for the first piece of the body. */
  #waiting = false
  #first: Buffer | undefined
  #stalled: NodeJS.Timeout | undefined

  constructor(context: AnswerContext, request: IncomingMessage, response: ServerResponse, input: PickInput) {
    this.#context = context
    this.#request = request
    this.#response = response
    this.#input = input
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller
  }

  onResponseHead(_: Controller, head: AnswerHead): void {
    if (head.status >= 200) this.#begin(head)
    else if (head.status === 102) this.#response.writeProcessing()
    else if (head.status === 103 && head.headers.link) this.#response.writeEarlyHints({ link: head.headers.link })
  }

  onResponseData(_: Controller, chunk: Buffer): void {
    if (this.#waiting && !this.#first) {
      this.#first = chunk
      return
    }
    this.flush()
    this.#write(chunk)
  }

  onResponseEnd(_: Controller, trailers: Headers): void {
    const first = this.#waiting ? this.#first : undefined
    this.#waiting = false
    for (const name in trailers) this.#response.addTrailers({ [name]: trailers[name] as string })
    // Node joins a string with the headers into one write; of a buffer it makes two.
    endAnswer(this.#request, this.#response, first && first.length <= smallBytes ? first.toString('latin1') : first)
  }

  onResponseError(_: Controller | null, error: Error): void {
    this.#waiting = false
    clearTimeout(this.#stalled)
    // Half an answer must not look like a whole one.
    if (this.#response.headersSent) this.#response.destroy()
    else sendError(this.#request, this.#response, asFleetError(error))
  }

  /** What came so far goes out. */
  flush(): void {
    if (!this.#waiting) return
    this.#waiting = false
    if (this.#first) this.#write(this.#first)
    else this.#response.flushHeaders()
    this.#first = undefined
  }

  #begin(head: AnswerHead): void {
    const { setCookie } = this.#input
    // An answer that comes before the request is complete leaves bytes on the connection that nobody will read.
    const close = this.#context.closing || !this.#request.complete
    // A policy may be anybody's: Node looks at its cookie.
    if (head instanceof ResponseHead && setCookie === undefined && isPlain(this.#request, head)) {
      const last = close || !this.#response.shouldKeepAlive
      writePlainHead(this.#response, head, last ? undefined : this.#context.persistence)
    } else {
      const out = responseHeaders(head.headers, mayHaveTrailers(this.#request, head))
      if (setCookie !== undefined) out.push('set-cookie', setCookie)
      writeHead(this.#request, this.#response, head.status, out, close, head.message)
    }
    this.#waiting = true
    process.nextTick(flush, this)
  }

  #write(chunk: Buffer): void {
    if (this.#response.write(chunk) || this.#stalled) return
    this.#controller?.pause()
    this.#stalled = setTimeout(() => this.#response.destroy(), this.#context.sendTimeoutMs)
    this.#response.once('drain', () => {
      clearTimeout(this.#stalled)
      this.#stalled = undefined
      this.#controller?.resume()
    })
  }
}

const flush = (answer: Answer): void => answer.flush()

/** Both sides are HTTP/1.1, and nothing in the head has to be taken out but what always is. */
const isPlain = ({ httpVersion, headers }: IncomingMessage, { connection }: ResponseHead): boolean =>
  httpVersion === '1.1' && headers.expect === undefined && nominatedBy(connection) === undefined

/** Node throws when trailers are announced that cannot come. */
const mayHaveTrailers = ({ method, httpVersion }: IncomingMessage, { status, headers }: AnswerHead): boolean =>
  httpVersion === '2.0' ||
  (httpVersion === '1.1' &&
    method !== 'HEAD' &&
    status !== 204 &&
    status !== 304 &&
    headers['content-length'] === undefined)

export function sendError(request: IncomingMessage, response: ServerResponse, error: FleetError): void {
  if (response.destroyed) return
  const page = errorPage(error, request.headers.accept)
  writeHead(request, response, page.status, [...page.headers], !request.complete)
  endAnswer(request, response, request.method === 'HEAD' ? undefined : page.body)
}

/** @param headers flat list, which is changed @param close say that the connection ends with this answer */
function writeHead(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  headers: string[],
  close: boolean,
  message?: string,
): void {
  if (request.httpVersionMajor === 2) {
    // HTTP/2 has neither reason phrases nor a Connection header, and Node takes no flat list here.
    for (let i = 0; i < headers.length; i += 2) response.appendHeader(headers[i] as string, headers[i + 1] as string)
    response.writeHead(status)
    return
  }
  if (close) headers.push('connection', 'close')
  response.writeHead(status, message || undefined, headers)
}
