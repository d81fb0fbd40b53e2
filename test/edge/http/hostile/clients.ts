import { type ClientRequest, request } from 'node:http'
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2'
import { connect } from 'node:net'
import { withDeadline } from './deadline.ts'

/** What a client received. */
export interface Outcome {
  /** 0 without a response. */
  status: number
  headers: IncomingHttpHeaders
  text: string
  trailers: IncomingHttpHeaders
  /** The client could tell that this is the whole response. */
  complete: boolean
}

/** No client reads more of one response than this, in bytes. */
const enough = 100_000

const noOutcome = (): Outcome => ({ status: 0, headers: {}, text: '', trailers: {}, complete: false })

/** Collects what comes back from Node's HTTP/1.1 client. */
export async function outcomeOf(sent: ClientRequest): Promise<Outcome> {
  const outcome = noOutcome()
  sent.on('error', () => {})
  sent.on('response', (response) => {
    Object.assign(outcome, { status: response.statusCode, headers: response.headers })
    response.setEncoding('latin1').on('error', () => {})
    response.on('data', (chunk) => {
      outcome.text += chunk
      if (outcome.text.length > enough) sent.destroy()
    })
    response.on('end', () => Object.assign(outcome, { trailers: response.trailers, complete: response.complete }))
  })
  await new Promise((resolve) => sent.on('close', resolve))
  return outcome
}

const target = (url: string, path: string) => ({
  host: '127.0.0.1',
  port: new URL(url).port,
  path,
  agent: false,
  maxHeaderSize: 256 * 1024,
})

export const http11 = (url: string, path: string): Promise<Outcome> =>
  withDeadline(path, outcomeOf(request(target(url, path)).end()))

/** A request with a body of unknown length, which the proxy streams. */
export const http11Streamed = (url: string, path: string): Promise<Outcome> => {
  const sent = request({ ...target(url, path), method: 'POST' })
  sent.write('he')
  sent.end('llo')
  return withDeadline(path, outcomeOf(sent))
}

/** In HTTP/1.0 the end of the connection can end a response; a reset cannot. */
export function http10(url: string, path: string): Promise<Outcome> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  let bytes = ''
  let reset = false
  socket.setEncoding('latin1').on('data', (chunk) => {
    bytes += chunk
    if (bytes.length > enough) socket.resetAndDestroy()
  })
  socket.on('error', () => {
    reset = true
  })
  socket.write(`GET ${path} HTTP/1.0\r\nHost: x\r\n\r\n`)
  const closed = new Promise((resolve) => socket.on('close', resolve)).then((): Outcome => {
    const end = bytes.indexOf('\r\n\r\n')
    const text = bytes.slice(end + 4)
    const length = /\r\ncontent-length: (\d+)\r\n/i.exec(bytes.slice(0, end + 2))?.[1]
    const status = Number(/^HTTP\/1\.\d (\d{3})/.exec(bytes)?.[1] ?? 0)
    const bodiless = status === 204 || status === 304
    const complete = !reset && end > 0 && (length === undefined || bodiless || text.length === Number(length))
    return { ...noOutcome(), status, text, complete }
  })
  return withDeadline(path, closed)
}

export const http2 = (session: ClientHttp2Session, path: string): Promise<Outcome> =>
  withDeadline(path, outcomeOfStream(session.request({ ':path': path })))

export async function outcomeOfStream(stream: ClientHttp2Stream): Promise<Outcome> {
  const outcome = noOutcome()
  let ended = false
  stream.on('error', () => {})
  stream.on('response', (headers) => Object.assign(outcome, { status: headers[':status'], headers }))
  stream.on('trailers', (trailers) => Object.assign(outcome, { trailers }))
  stream.setEncoding('latin1').on('data', (chunk) => {
    outcome.text += chunk
    if (outcome.text.length > enough) stream.close(8)
  })
  stream.on('end', () => {
    ended = true
  })
  await new Promise((resolve) => stream.on('close', resolve))
  outcome.complete = ended && stream.rstCode === 0 && outcome.status > 0
  return outcome
}
