import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { createProxy, type ReverseProxy } from '../../../src/edge/http/server.ts'
import { exchange, statuses } from '../engine/exchange.ts'
import type { Target } from '../engine/target.ts'

/** Separates the client's data from the upstream's. */
const next = '\x1e'
let proxy: ReverseProxy
let upstream: Server
let port: number
let response = Buffer.alloc(0)
const sockets = new Set<Socket>()

async function start(): Promise<void> {
  upstream = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
    socket.once('data', () => socket.end(response))
  }).listen(0, '127.0.0.1')
  await once(upstream, 'listening')
  const target = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`
  proxy = createProxy({ targets: [target], probe: { type: 'off' }, outliers: { maxEjectedShare: 0 } })
  port = Number(new URL(await proxy.listen()).port)
}

const get = 'GET /a HTTP/1.1\r\nHost: a\r\n\r\n'

/** The proxy between a hostile client and a hostile upstream: it responds, or closes the connection. */
export default {
  seeds: [
    `${get}${next}HTTP/1.1 200 OK\r\nContent-Length: 2\r\nLink: </a>\r\nLink: </b>\r\nConnection: x\r\nConnection: y\r\n\r\nok`,
    `${get}${next}HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload, </b>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n`,
    `${get}${next}HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n1\r\nx\r\n0\r\nte: a\r\nA: \xe9\r\n__proto__: b\r\n\r\n`,
    `${get}${next}HTTP/1.1 999 \xe9\r\n__proto__: a\r\nconstructor: b\r\nDate: x\r\nDate: y\r\n\r\nuntil the end`,
    `CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n${next}HTTP/1.1 200 OK\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x01${next}HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nhello`,
    `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n${next}HTTP/1.1 204 x\r\n\r\n`,
    `HEAD / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n${next}HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc`,
  ],
  dictionary: [
    ...[
      '\r\n',
      '\n',
      '\0',
      next,
      '\xff',
      '0\r\n\r\n',
      'Content-Length: 2\r\n',
      'Transfer-Encoding: chunked\r\n',
      'Trailer: x\r\n',
    ],
    ...[
      'Connection: close\r\n',
      'Connection: upgrade\r\n',
      'Upgrade: websocket\r\n',
      'HTTP/1.1 100 Continue\r\n\r\n',
      'HTTP/1.0',
    ],
    ...[
      'Link: <a>; rel=preload\r\n',
      'Set-Cookie: a\r\n',
      'Location: \xe9\r\n',
      'x-fleet-draining: 1\r\n',
      'x-fleet-load: 1\r\n',
    ],
  ],
  async prepare() {
    await start()
    return async () => {
      upstream.close()
      for (const socket of sockets) socket.destroy()
      await proxy.close()
    }
  },
  async run(input) {
    const at = input.indexOf(next)
    response = Buffer.from(at < 0 ? '' : input.subarray(at + 1))
    const text = await exchange(port, at < 0 ? input : input.subarray(0, at))
    assert.doesNotMatch(text, /node_modules|\bat .*\.[jt]s:\d/, 'a stack reaches the client')
    return statuses(text).join(' ')
  },
} satisfies Target
