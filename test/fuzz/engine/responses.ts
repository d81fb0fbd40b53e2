import { once } from 'node:events'
import { request } from 'node:http'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { WirePool } from '../../../src/edge/http/wire/pool.ts'

/** The result of one response, in the same shape for both parsers. */
export interface Exchange {
  /** `cut`: the head was accepted, but not the body. */
  outcome: 'complete' | 'cut' | 'rejected'
  status: number
  /** Pairs of name in lower case and value, in alphabetical order. */
  headers: string[]
  body: string
  trailers: string[]
  /** Statuses of the interim responses. */
  interim: number[]
}

const blank = (): Exchange => ({ outcome: 'rejected', status: 0, headers: [], body: '', trailers: [], interim: [] })

const pairs = (lists: object): string[] =>
  Object.entries(lists)
    .flatMap(([name, values]) => [values].flat().map((value) => `${name}: ${value}`))
    .sort()

/** Only the outcome counts for rejected and cut responses. */
function settled(exchange: Exchange, outcome: Exchange['outcome']): Exchange {
  return outcome === 'rejected' ? { ...blank(), interim: [] } : { ...exchange, outcome }
}

/** A server that sends given bytes, and two clients that parse them. */
export async function startPair() {
  let pieces: readonly Buffer[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    let seen = ''
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
    socket.setEncoding('latin1').on('data', (text) => {
      seen += text
      if (!seen.endsWith('\r\n\r\n')) return
      const [first, second] = pieces
      if (first) socket.write(first)
      if (!second) socket.end()
      // Usually the parser has run by then; one piece or two must not make a difference.
      else setImmediate(() => setImmediate(() => socket.end(second)))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const bounds = {
    connectTimeoutMs: 60_000,
    responseTimeoutMs: 60_000,
    bodyTimeoutMs: 60_000,
    keepAliveMs: 60_000,
    unsafeKeepAliveMs: 60_000,
    serverName: undefined,
  }

  const own = (method: string): Promise<Exchange> =>
    new Promise((resolve) => {
      const seen = blank()
      const pool = new WirePool({ host: '127.0.0.1', port, maxHeaderBytes: 16_384, ...bounds })
      const finish = (outcome: Exchange['outcome']): void => {
        void pool.close()
        resolve(settled(seen, outcome))
      }
      const message = { method, path: '/', headers: 'host: x\r\n', body: null, rejectable: false }
      pool.dispatch(
        message,
        {
          onResponseStart(_, status, headers) {
            if (status < 200) seen.interim.push(status)
            else Object.assign(seen, { status, headers: pairs(headers) })
          },
          onResponseData(_, data) {
            seen.body += data.toString('latin1')
          },
          onResponseEnd(_, trailers) {
            seen.trailers = pairs(trailers)
            finish('complete')
          },
          onResponseError() {
            finish(seen.status === 0 ? 'rejected' : 'cut')
          },
        },
        true,
      )
    })

  const node = (method: string): Promise<Exchange> =>
    new Promise((resolve) => {
      const seen = blank()
      const client = request({ host: '127.0.0.1', port, method, agent: false, headers: { host: 'x' } })
      let settledAs: Exchange | undefined
      const finish = (outcome: Exchange['outcome']): void => {
        settledAs ??= settled(seen, outcome)
        client.destroy()
        resolve(settledAs)
      }
      client.on('information', ({ statusCode }) => seen.interim.push(statusCode))
      client.on('upgrade', () => finish('rejected'))
      client.on('error', () => finish(seen.status === 0 ? 'rejected' : 'cut'))
      client.on('close', () => finish(seen.status === 0 ? 'rejected' : 'cut'))
      client.on('response', (response) => {
        Object.assign(seen, { status: response.statusCode, headers: pairs(response.headersDistinct) })
        response.setEncoding('latin1').on('data', (text) => {
          seen.body += text
        })
        response.on('error', () => finish('cut'))
        response.on('end', () => {
          seen.trailers = pairs(response.trailersDistinct)
          finish(response.complete ? 'complete' : 'cut')
        })
      })
      client.end()
    })

  return {
    async send(method: string, given: readonly Buffer[]): Promise<[own: Exchange, node: Exchange]> {
      pieces = given
      return Promise.all([own(method), node(method)])
    },
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
