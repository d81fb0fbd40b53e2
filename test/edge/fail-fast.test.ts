import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { Balancer } from '../../src/edge/balancer.ts'
import { until } from '../helpers/until.ts'
import { quickProbe } from './front.ts'
import { startUpstreams } from './upstream.ts'

describe('one of ten that fails at once', { concurrency: true }, () => {
  for (const policy of ['round-robin', 'least-connections', 'least-response-time', 'prequal'] as const) {
    it(`is found out within a second, and hardly anybody sees it after that (${policy})`, async () => {
      const upstreams = await startUpstreams(10)
      for (const upstream of upstreams) {
        upstream.handler = (_, response) => setTimeout(() => response.end('fine'), 2)
      }
      const [bad] = upstreams
      if (bad) bad.handler = (_, response) => response.writeHead(500).end()
      const balancer = new Balancer(
        upstreams.map(({ url }) => url),
        {
          policy,
          probe: { ...quickProbe, timeoutMs: 5000 },
          // Its trials cost a request each, every ten seconds at first: how large a share that is depends on the machine.
          outliers: { ejectMs: 300_000 },
        },
      )
      after(() => balancer.close())
      await balancer.ready()
      let seen = { answers: 0, errors: 0 }
      let asking = true
      const client = async (): Promise<void> => {
        while (asking) {
          const { statusCode, body } = await balancer.request('/')
          await body.dump()
          const counted = seen
          counted.answers++
          if (statusCode !== 200) counted.errors++
        }
      }
      const clients = Array.from({ length: 8 }, client)
      const began = performance.now()
      await until(() => performance.now() > began + 1000 && seen.answers > 200, { timeoutMs: 60_000 })
      seen = { answers: 0, errors: 0 }
      // Ejection takes five errors. A machine so busy that a second is too short for them sees the last ones in this count.
      const judged = until(() => seen.answers > 1000 && seen.errors < seen.answers / 1000, { timeoutMs: 90_000 })
      await judged
        .catch(() => assert.fail(`${seen.errors} errors in ${seen.answers} answers`))
        .finally(() => {
          asking = false
        })
      await Promise.all(clients)
    })
  }
})
