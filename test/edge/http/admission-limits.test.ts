import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Front, pair } from '../front.ts'
import { head, raw, statusOf } from '../raw.ts'

const status = async (front: Front, text: string): Promise<number> => statusOf(await raw(front.url, text))
const body = (path: string, length: number): string =>
  `${head(`POST ${path}`, `Content-Length: ${length}`)}${'x'.repeat(length)}`
const chunked = (path: string, length: number): string =>
  `${head(`POST ${path}`, 'Transfer-Encoding: chunked')}${length.toString(16)}\r\n${'x'.repeat(length)}\r\n0\r\n\r\n`

describe('a limit of requests', () => {
  it('of maxHeaders counts every field, those of the connection included', async () => {
    const front = await pair({ maxHeaders: 20 })
    // `head` writes Host and Connection.
    const fields = (count: number): string[] => Array.from({ length: count - 2 }, (_, i) => `X-${i}: a`)
    assert.equal(await status(front, head('GET /', ...fields(20))), 200)
    assert.equal(await status(front, head('GET /', ...fields(21))), 431)
  })

  for (const bufferBytes of [0, 65_536]) {
    it(`of maxBodyBytes holds with and without a length, with bufferBytes ${bufferBytes}`, async () => {
      const front = await pair({ maxBodyBytes: 100, bufferBytes })
      for (const text of [body, chunked]) {
        assert.equal(await status(front, text('/', 100)), 200)
        assert.equal(await status(front, text('/', 101)), 413)
      }
    })
  }

  it('of maxBodyBytes is that of the pool, else that of the proxy; 0 is none', async () => {
    const front = await pair({
      maxBodyBytes: 100,
      routes: '/small=small /any=any /same=same',
      pools: { small: { maxBodyBytes: 10 }, any: { maxBodyBytes: 0 }, same: {} },
    })
    for (const { balancer } of [...front.proxy.pools.values()].slice(1)) balancer.add(front.upstream.url)
    await Promise.all([...front.proxy.pools.values()].map(({ balancer }) => balancer.ready()))
    for (const [path, length, expected] of [
      ['/small', 10, 200],
      ['/small', 11, 413],
      ['/same', 100, 200],
      ['/same', 101, 413],
      ['/any', 5000, 200],
      ['/', 101, 413],
    ] as const) {
      for (const text of [body, chunked])
        assert.equal(await status(front, text(path, length)), expected, `${path} ${length} ${text.name}`)
    }
  })

  it('of bufferBytes is the longest body that is read before a target is chosen', async (t) => {
    const front = await pair({ bufferBytes: 10 })
    const { mock } = t.mock.method(front.proxy.balancer, 'dispatch')
    for (const text of [body('/', 10), body('/', 11), chunked('/', 1)]) assert.equal(await status(front, text), 200)
    const isWhole = mock.calls.map((call) => Buffer.isBuffer(call.arguments[0].body))
    assert.deepEqual(isWhole, [true, false, false])
  })
})
