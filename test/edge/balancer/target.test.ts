import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { Target } from '../../../src/edge/balancer/target.ts'
import { HeaderLines } from '../../../src/edge/http/headers.ts'
import { balancerDefaults, stub } from './stub.ts'

/** A server that records what it is asked, and targets at a path of it. */
async function serve(t: TestContext) {
  const seen: unknown[] = []
  const server = createServer(({ url, headers }, response) => {
    seen.push([url, headers.host, headers['x-fleet-retry']])
    response.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  t.after(() => server.close())
  const host = `127.0.0.1:${port}`
  /** Sends one request. */
  const send = async (base: string, path: string, lines: HeaderLines, rejectable = false): Promise<void> => {
    const target = new Target({ url: `http://${host}${base}` }, balancerDefaults.connections)
    await new Promise((resolve, reject) => {
      const handler = {
        ...{ rejectable, onRequestStart() {}, onResponseHead() {}, onResponseData() {} },
        onResponseEnd: resolve,
        onResponseError: (_: unknown, error: Error) => reject(error),
      }
      target.send({ method: 'GET', path, headers: lines as never }, handler, true)
    })
    await target.disconnect()
  }
  return { seen, host, send }
}

describe('a request to a target', () => {
  it('is below its path, has its host if none is given, and may ask to be rejected', async (t) => {
    const { seen, host, send } = await serve(t)
    const given = new HeaderLines()
    given.push('host', 'shop.example')
    const none = new HeaderLines(false)
    none.push('a', '1')
    await send('', '/x?y', given)
    await send('/base/', '/x', none)
    await send('/base', '', none, true)
    await send('', '?y', none)
    assert.deepEqual(seen, [
      ['/x?y', 'shop.example', undefined],
      ['/base/x', host, undefined],
      ['/base', host, '1'],
      ['/?y', host, undefined],
    ])
  })
})

describe('a target is full', () => {
  it('at its largest number of requests, and on trial with one that has no outcome', () => {
    const [limited, unlimited] = [stub(1, { maxConnections: 2 }), stub(2)]
    for (const [inflight, pending, onTrial, full] of [
      [0, 0, false, [false, false]],
      [1, 1, false, [false, false]],
      [2, 2, false, [true, false]],
      [3, 3, false, [true, false]],
      [0, 0, true, [false, false]],
      [1, 1, true, [true, true]],
      [1, 0, true, [false, false]],
      [2, 0, true, [true, false]],
    ] as const) {
      for (const target of [limited, unlimited]) Object.assign(target, { inflight, pending, onTrial })
      assert.deepEqual([limited.full, unlimited.full], full, `${inflight} ${pending} ${onTrial}`)
    }
  })
})
