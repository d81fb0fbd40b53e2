import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { ClientQuota } from '../../src/state/client-quota.ts'
import { throttle } from '../../src/state/throttle.ts'

/** A clock that the test sets, in ms. */
function clock(t: TestContext, begun = 5_000): (ms: number) => void {
  let now = begun
  t.mock.method(performance, 'now', () => now)
  return (ms) => {
    now = begun + ms
  }
}
const request = (ip: string) => ({ ip, socket: { remoteAddress: ip }, headers: {}, server: {}, raw: {} }) as never

describe('the quota of clients', () => {
  function open(t: TestContext, perMinute: number, totalPerMinute: number) {
    const at = clock(t)
    const exceeded: string[] = []
    const quota = new ClientQuota({ perMinute, totalPerMinute }, (client, isFirst) =>
      exceeded.push(`${client} ${isFirst}`),
    )
    return { at, exceeded, quota, admits: (ip: string) => quota.admits(request(ip)) }
  }

  test('is per client and minute', (t) => {
    const { at, exceeded, admits } = open(t, 2, 100)
    const seen = ['192.0.2.1', '192.0.2.1', '192.0.2.1', '192.0.2.2', '192.0.2.1'].map(admits)
    assert.deepEqual(seen, [true, true, false, true, false])
    assert.deepEqual(exceeded, ['192.0.2.1 true', '192.0.2.1 false'])
    at(59_999)
    assert.equal(admits('192.0.2.1'), false)
    at(60_000)
    assert.equal(admits('192.0.2.1'), true)
    for (let i = 0; i < 2; i++) admits('192.0.2.1')
    assert.equal(exceeded.at(-1), '192.0.2.1 true', 'the first one of this minute')
  })

  test('limits all clients together, by what they were admitted', (t) => {
    const { at, exceeded, admits } = open(t, 1, 2)
    const seen = ['192.0.2.1', '192.0.2.1', '192.0.2.2', '192.0.2.3'].map(admits)
    assert.deepEqual(seen, [true, false, true, false])
    assert.deepEqual(exceeded, ['192.0.2.1 true', 'undefined false'])
    at(60_000)
    assert.deepEqual(['192.0.2.3', '192.0.2.4'].map(admits), [true, true])
  })

  test('counts requests in total, and not clients', (t) => {
    const { exceeded, admits } = open(t, 2, 3)
    const seen = ['192.0.2.1', '192.0.2.1', '192.0.2.2', '192.0.2.2', '192.0.2.3'].map(admits)
    assert.deepEqual(seen, [true, true, true, false, false])
    assert.deepEqual(exceeded, ['undefined true', 'undefined false'])
  })

  test('takes all addresses of an IPv6 network for one client, and not those of its proxy', (t) => {
    const { quota, admits } = open(t, 1, 100)
    assert.deepEqual(['2001:db8:1:2::1', '2001:db8:1:2::2', '2001:db8:1:3::1'].map(admits), [true, false, true])
    // Fastify's own `trustProxy` followed one proxy.
    const forwarded = (client: string): boolean =>
      quota.admits({
        ...{ ip: '192.0.2.9', ips: ['192.0.2.9', client], socket: { remoteAddress: '192.0.2.9' }, server: {}, raw: {} },
        headers: { 'x-forwarded-for': client },
      } as never)
    assert.deepEqual(['203.0.113.1', '203.0.113.2', '203.0.113.1'].map(forwarded), [true, true, false])
  })

  test('remembers no client that it rejects, because an attack has any number of them', (t) => {
    const { admits } = open(t, 1, 2)
    const set = t.mock.method(Map.prototype, 'set')
    for (let i = 1; i <= 9; i++) admits(`192.0.2.${i}`)
    const remembered = set.mock.calls.map(({ arguments: [key] }) => key).filter((key) => /^192\.0\.2\./.test(`${key}`))
    assert.deepEqual(remembered, ['192.0.2.1', '192.0.2.2'])
  })

  test('limits the clients of a Unix domain socket, which have no address', (t) => {
    const { quota } = open(t, 1, 100)
    const local = (): boolean => quota.admits({ socket: {}, headers: {}, server: {}, raw: {} } as never)
    assert.deepEqual([local(), local()], [true, false])
  })

  test('counts a request once, and none that the app itself made', (t) => {
    const { quota, admits } = open(t, 1, 100)
    const own = request('192.0.2.1')
    for (let i = 0; i < 3; i++) assert.equal(quota.admits(own), true)
    const other = request('192.0.2.1')
    for (let i = 0; i < 2; i++) assert.equal(quota.admits(other), false)
    for (let i = 0; i < 3; i++) assert.equal(quota.admits({ headers: {} } as never), true)
    assert.equal(admits('192.0.2.2'), true)
  })
})

test('a throttled warning comes once per minute, or as often as it may', (t) => {
  const at = clock(t)
  const said: string[] = []
  const warn = throttle((text: string, count: number) => said.push(`${text} ${count}`))
  const often = throttle((text: string) => said.push(text), 10)
  for (const ms of [0, 9, 10, 59_999, 60_000, 119_999]) {
    at(ms)
    warn('slow', ms)
    often(`often ${ms}`)
  }
  assert.deepEqual(said, ['slow 0', 'often 0', 'often 10', 'often 59999', 'slow 60000', 'often 119999'])
})
