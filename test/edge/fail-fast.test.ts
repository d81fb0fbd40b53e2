import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { until } from '../helpers/until.ts'
import { front, get } from './front.ts'
import { startUpstreams } from './upstream.ts'

describe('one of ten that fails at once', () => {
  for (const policy of ['round-robin', 'least-connections', 'least-response-time', 'prequal'] as const) {
    it(`is found out within a second, and hardly anybody sees it after that (${policy})`, async () => {
      const upstreams = await startUpstreams(10)
      const [bad, ...good] = upstreams
      if (!bad) throw new Error('no upstream')
      bad.handler = (_, response) => response.writeHead(500).end()
      for (const upstream of good) {
        upstream.handler = (request, response) => setTimeout(() => upstream.answer(request, response), 2)
      }
      const { url, proxy } = await front(upstreams, { policy })
      let seen = { answers: 0, errors: 0 }
      let asking = true
      const client = async (): Promise<void> => {
        while (asking) {
          const { status } = await get(url)
          const counted = seen
          counted.answers++
          if (status !== 200) counted.errors++
        }
      }
      const clients = Array.from({ length: 8 }, client)
      const began = performance.now()
      await until(() => performance.now() > began + 1000)
      seen = { answers: 0, errors: 0 }
      await until(() => seen.answers >= 2000)
      asking = false
      await Promise.all(clients)
      assert.ok(seen.errors < seen.answers / 1000, `${seen.errors} of ${seen.answers}`)
      // It may be left to the policy alone, which then avoids it like a slow one.
      assert.ok(proxy.targets[0]?.state === 'ejected' || bad.seen.length < 20, `${bad.seen.length}`)
    })
  }
})
