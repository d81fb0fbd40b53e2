import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type InFlight, InFlightList, type Response } from '../../../src/instance/lifecycle/in-flight.ts'

const request = (url: string) => ({ method: 'GET', routeOptions: { url } })
const response = (): Response => ({}) as Response

describe('list of requests in flight', () => {
  it('lists the oldest first, in whatever order requests end', () => {
    const orders = [0, 1, 2, 3].flatMap((a) =>
      [0, 1, 2, 3]
        .filter((b) => b !== a)
        .flatMap((b) => [0, 1, 2, 3].filter((c) => c !== a && c !== b).map((c) => [a, b, c])),
    )
    assert.equal(orders.length, 24)
    for (const order of orders) {
      const list = new InFlightList()
      const responses = [response(), response(), response(), response()]
      for (const [i, one] of responses.entries()) list.add(one).request = request(`/${i}`)
      const left = new Set(responses.keys())
      for (const ended of order) {
        list.remove(list.get(responses[ended] as Response) as InFlight)
        left.delete(ended)
        assert.deepEqual(
          list.entries().map(({ request }) => request?.routeOptions.url),
          [...left].map((i) => `/${i}`),
        )
        assert.deepEqual(
          list.entries().map(({ response }) => responses.indexOf(response as Response)),
          [...left],
        )
        assert.equal(list.size, left.size)
        assert.equal(list.get(responses[ended] as Response), undefined)
      }
    }
  })

  it('reuses an entry and clears it', () => {
    const list = new InFlightList()
    const [first, second] = [response(), response()]
    list.add(first).request = request('/first')
    const entry = list.get(first) as InFlight
    list.remove(entry)
    assert.deepEqual([entry.request, entry.response], [undefined, undefined])
    list.add(second).request = request('/second')
    assert.equal(list.get(second), entry)
    assert.equal(list.get(first), undefined)
  })
})
