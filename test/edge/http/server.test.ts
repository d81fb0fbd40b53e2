import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get as httpGet, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { until } from '../../helpers/until.ts'
import { front, pair } from '../front.ts'
import { head, raw, statusOf } from '../raw.ts'
import { startUpstreams } from '../upstream.ts'

describe('back-pressure', () => {
  it('pauses the upstream while the client does not read', async () => {
    const { url, upstream } = await pair()
    let sent = 0
    const total = 200
    upstream.handler = (_, response) => {
      const chunk = Buffer.alloc(1 << 20)
      const pump = (): void => {
        while (sent < total) {
          sent++
          if (!response.write(chunk)) return void response.once('drain', pump)
        }
        response.end()
      }
      pump()
    }
    const request = httpGet(url)
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    response.once('readable', () => {})
    let before = -1
    await until(() => {
      const still = sent === before
      before = sent
      return still && sent > 0
    })
    assert.ok(sent < total, `${sent} MiB went into buffers`)
    let length = 0
    for await (const chunk of response) length += chunk.length
    assert.equal(length, total << 20)
  })

  it('pauses the client while the upstream does not read', async () => {
    const { url, upstream } = await pair()
    let resume = (): void => {}
    let received = 0
    upstream.handler = (request, response) => {
      resume = () => {
        request.on('data', (chunk) => {
          received += chunk.length
        })
        request.on('end', () => response.end('done'))
      }
    }
    const request = httpRequest(url, { method: 'POST' })
    const chunk = Buffer.alloc(1 << 20)
    let sent = 0
    const pump = (): void => {
      while (sent < 200) {
        sent++
        if (!request.write(chunk)) return
      }
    }
    request.on('drain', pump)
    pump()
    await until(() => upstream.seen.length === 1)
    let before = -1
    await until(() => {
      const still = sent === before
      before = sent
      return still && request.writableNeedDrain
    })
    assert.ok(sent < 200, `${sent} MiB went into buffers`)
    request.off('drain', pump)
    resume()
    request.end()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    response.resume()
    await once(response, 'end')
    assert.ok(received >= sent << 20)
  })

  it('disconnects a client that never reads', async () => {
    const { url, upstream, proxy } = await pair({ sendTimeoutMs: 100 })
    let cut = false
    upstream.handler = (_, response) => {
      const chunk = Buffer.alloc(1 << 20)
      const pump = (): void => {
        if (!response.destroyed && response.write(chunk)) setImmediate(pump)
      }
      response.on('drain', pump).on('close', () => {
        cut = true
      })
      pump()
    }
    const socket = connect(Number(new URL(url).port), '127.0.0.1').pause()
    socket.on('error', () => {})
    socket.write(head('GET /'))
    await until(() => cut)
    await until(() => proxy.targets[0]?.inflight === 0)
    socket.destroy()
  })
})

describe('a client that disconnects', () => {
  it('aborts its request at any stage', async () => {
    const { url, upstream, proxy } = await pair()
    let cancelled = 0
    upstream.handler = (request) => request.socket.on('close', () => cancelled++)
    for (const request of [head('GET /'), `${head('POST /', 'Content-Length: 100000')}some`]) {
      const before = upstream.seen.length
      const socket = connect(Number(new URL(url).port), '127.0.0.1')
      socket.write(request)
      await until(() => upstream.seen.length > before)
      socket.destroy()
      await until(() => cancelled === upstream.seen.length && proxy.targets[0]?.inflight === 0)
    }
    assert.equal(proxy.targets[0]?.failed, 0)
  })

  it('frees its place in the queue', async () => {
    const [upstream] = await startUpstreams(1)
    const { url, proxy } = await front([], { targets: [{ url: upstream?.url ?? '', maxConnections: 1 }] })
    if (upstream) upstream.handler = () => {}
    const sockets = [0, 1].map(() => connect(Number(new URL(url).port), '127.0.0.1'))
    for (const socket of sockets) socket.write(head('GET /'))
    await until(() => upstream?.seen.length === 1)
    sockets[1]?.destroy()
    sockets[0]?.destroy()
    await until(() => proxy.targets[0]?.inflight === 0)
    assert.equal(upstream?.seen.length, 1)
  })
})

describe('limits', () => {
  it('on headers, bodies and time respond 431, 413 and 408', async () => {
    const { url, upstream } = await pair({
      maxHeaderBytes: 2048,
      maxBodyBytes: 100_000,
      bufferBytes: 1000,
    })
    const page = (text: string): [number, string] => [
      statusOf(text),
      JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)).code,
    ]
    assert.deepEqual(page(await raw(url, head('GET /', `X: ${'x'.repeat(3000)}`))), [
      431,
      'FLEET_ERR_HEADERS_TOO_LARGE',
    ])
    assert.deepEqual(page(await raw(url, head('POST /', 'Content-Length: 100001'))), [413, 'FLEET_ERR_BODY_TOO_LARGE'])
    const hasty = await pair({ headersTimeoutMs: 200 })
    assert.deepEqual(page(await raw(hasty.url, 'GET / HTTP/1.1\r\nHost: x\r\n')), [408, 'FLEET_ERR_REQUEST_TIMEOUT'])
    assert.equal(upstream.seen.length + hasty.upstream.seen.length, 0)
    const chunks = ['1F4\r\n', 'x'.repeat(500), '\r\n'].join('').repeat(250)
    assert.deepEqual(page(await raw(url, [head('POST /', 'Transfer-Encoding: chunked'), chunks])), [
      413,
      'FLEET_ERR_BODY_TOO_LARGE',
    ])
  })

  it('let the client read the response while it is still sending', async () => {
    const { url } = await pair({ maxBodyBytes: 10 })
    const body = 'x'.repeat(3_000_000)
    for (let i = 0; i < 5; i++) {
      const text = await raw(url, [head('POST /', `Content-Length: ${body.length}`), body])
      assert.match(text, /FLEET_ERR_BODY_TOO_LARGE/)
    }
  })

  it('forward a response that precedes the end of the request', async () => {
    const { url, upstream } = await pair()
    upstream.handler = (_, response) => response.writeHead(401).end('no')
    const body = 'x'.repeat(3_000_000)
    const text = await raw(url, [head('POST /', `Content-Length: ${body.length}`), body])
    assert.equal(statusOf(text), 401)
  })
})
