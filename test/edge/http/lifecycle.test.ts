import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createProxy } from '../../../src/edge/http/server.ts'
import { until } from '../../helpers/until.ts'
import { front, get, pair } from '../front.ts'
import { listensAfterProbes } from '../probes-first.ts'
import { startUpstreams } from '../upstream.ts'

it('listen() accepts no connection before every target has been probed', async () => {
  await listensAfterProbes(createProxy)
})

describe('close()', () => {
  it('finishes in-flight requests, sends Connection: close, and accepts no new connections', async () => {
    const { url, upstream, proxy } = await pair()
    let reply = (): void => {}
    upstream.handler = (request, response) => {
      reply = () => upstream.response(request, response)
    }
    const inFlight = get(`${url}/slow`)
    await until(() => upstream.seen.length === 1)
    const closed = proxy.close()
    await assert.rejects(get(`${url}/new`, { dispatcher: undefined, headers: { connection: 'close' } }))
    reply()
    const { status, headers } = await inFlight
    assert.deepEqual([status, headers.connection], [200, 'close'])
    await closed
    assert.equal(proxy.close(), proxy.close())
  })

  it('cuts requests at the deadline', async () => {
    const { url, upstream, proxy } = await pair({ shutdownTimeoutMs: 100 })
    upstream.handler = () => {}
    const inFlight = get(url)
    await until(() => upstream.seen.length === 1)
    await Promise.all([proxy.close(), assert.rejects(inFlight)])
  })
})

describe('rolling replacement', () => {
  for (const policy of ['round-robin', 'least-connections', 'least-response-time', 'ip-hash', 'prequal'] as const) {
    it(`of all targets under load loses nothing and repeats no POST (${policy})`, async () => {
      const upstreams = await startUpstreams(3)
      const { url, proxy } = await front(upstreams, { policy })
      const failures: string[] = []
      const executed = new Map<string, number>()
      for (const upstream of upstreams) {
        upstream.handler = (req, res) => {
          if (req.method === 'POST') executed.set(req.url ?? '', (executed.get(req.url ?? '') ?? 0) + 1)
          upstream.response(req, res)
        }
      }
      let rolling = true
      let sent = 0
      const client = async (): Promise<void> => {
        while (rolling) {
          const id = sent++
          const method = id % 2 ? 'POST' : 'GET'
          try {
            const { status, text } = await get(`${url}/r/${id}`, { method, body: method === 'POST' ? 'x' : undefined })
            if (status !== 200) failures.push(`${method} ${status} ${text}`)
          } catch (error) {
            failures.push(`${method} ${error}`)
          }
        }
      }
      const clients = Array.from({ length: 6 }, client)
      for (const upstream of upstreams) {
        await upstream.leave()
        await upstream.start()
        const mark = sent
        await until(() => sent > mark + 100, { what: 'requests during the roll' })
        await until(() => proxy.targets.every((t) => t.state === 'up'), { what: 'all targets up' })
      }
      rolling = false
      await Promise.all(clients)
      assert.deepEqual(failures, [])
      assert.ok(executed.size > 100)
      assert.ok([...executed.values()].every((times) => times === 1))
    })
  }
})
