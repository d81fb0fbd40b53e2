import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2'
import type { Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { open } from '../../instance/lifecycle/sockets.ts'
import { until } from '../until.ts'

/**
 * Opens more connections than the limit, each with half a request. Those above the limit are closed without a response;
 * others get 408 at the earliest.
 */
export async function exceedConnections(port: number, limit: number): Promise<void> {
  const extra = 3
  const accepted = await Promise.all(Array.from({ length: limit }, () => open(port, 'GET / HTTP/1.1\r\n')))
  const rejected = await Promise.all(Array.from({ length: extra }, () => open(port, 'GET / HTTP/1.1\r\n')))
  await until(() => rejected.every((socket) => socket.closed), { what: 'the end of the connections above the limit' })
  assert.deepEqual(
    rejected.map((socket) => socket.received()),
    Array(extra).fill(''),
  )
  const closedEarly = accepted.filter((socket) => socket.closed && socket.received() === '')
  assert.equal(closedEarly.length, 0)
  for (const socket of accepted) socket.destroy()
}

/** The same for TLS, where a connection above the limit completes no handshake. */
export async function exceedTlsConnections(port: number, ca: string, limit: number): Promise<void> {
  const dial = (): TLSSocket => connectTls({ port, host: '127.0.0.1', ca, servername: 'localhost' })
  const accepted = Array.from({ length: limit }, dial)
  await Promise.all(accepted.map((socket) => once(socket, 'secureConnect')))
  await assert.rejects(once(dial(), 'secureConnect'), { code: 'ECONNRESET' })
  for (const socket of accepted) socket.destroy()
}

/** Sends requests one after another until a response announces the end of the connection. @returns the number of responses */
export async function requestsUntilClosed(socket: Socket): Promise<number> {
  let text = ''
  let closed = false
  const responses = (): number => text.split('HTTP/1.1 200').length - 1
  socket.setEncoding('latin1').on('data', (chunk) => (text += chunk))
  socket.on('error', () => {}).on('close', () => (closed = true))
  for (let sent = 1; !/\r\nconnection: close\r\n/i.test(text) && sent <= 100; sent++) {
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await until(() => responses() === sent)
  }
  socket.end()
  await until(() => closed)
  return responses()
}

const newSession = (authority: string, ca?: string, settings = {}): ClientHttp2Session =>
  connectHttp2(authority, { ca, servername: 'localhost', settings } as never).on('error', () => {})

/** Sends requests on one HTTP/2 session until it gets GOAWAY. @returns the number of responses */
export async function requestsUntilGoaway(authority: string, ca?: string): Promise<number> {
  const session = newSession(authority, ca)
  let responses = 0
  while (!session.closed && !session.destroyed && responses < 100) {
    const stream = session.request({ ':path': '/' })
    const [headers] = await once(stream.resume(), 'response')
    assert.equal(headers[':status'], 200)
    await once(stream, 'close')
    responses++
    // GOAWAY may arrive after the response.
    await new Promise((resolve) => session.ping(resolve) || setImmediate(resolve, undefined))
  }
  session.destroy()
  return responses
}

/** @returns the status of an upload of this many bytes over HTTP/2 */
export async function uploadOverHttp2(
  authority: string,
  bytes: number,
  announced: boolean,
  ca?: string,
): Promise<number> {
  const session = newSession(authority, ca)
  const length = announced ? { 'content-length': bytes } : {}
  const stream = session.request({ ':method': 'POST', ':path': '/', 'content-type': 'text/plain', ...length })
  stream.on('error', () => {}).end(Buffer.alloc(bytes, 'x'))
  const [headers] = await once(stream.resume(), 'response')
  session.destroy()
  return headers[':status']
}

/**
 * Requests `/long`, a response of 1 MB, on ever more streams without a window to send it, until a stream is refused
 * because of the memory that the session occupies.
 */
export async function exceedSessionMemory(authority: string, ca?: string): Promise<void> {
  const session = newSession(authority, ca, { initialWindowSize: 0 })
  await once(session, 'remoteSettings')
  const codes: number[] = []
  let started = 0
  for (let i = 0; i < 500 && codes.length === 0; i++) {
    const stream = session.request({ ':path': '/long' })
    stream.on('error', () => {}).on('close', () => codes.push(stream.rstCode))
    const response = once(stream, 'response').then(() => started++)
    response.catch(() => {})
    await until(() => started === i + 1 || codes.length > 0, { what: `stream ${i}` })
  }
  assert.deepEqual(codes, [constants.NGHTTP2_ENHANCE_YOUR_CALM])
  assert.ok(started > 8, String(started))
  session.destroy()
}
