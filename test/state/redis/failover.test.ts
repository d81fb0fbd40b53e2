import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { describe, it } from 'node:test'
import type { Redis } from 'ioredis'
import { followFailovers } from '../../../src/state/redis/failover.ts'

/** A client that is connected to 10.0.0.1:6379, and a sentinel. */
function start() {
  const calls: string[] = []
  const client = Object.assign(new EventEmitter(), {
    status: 'ready',
    stream: { remoteAddress: '::ffff:10.0.0.1', remotePort: 6379 },
    disconnect: (reconnect: boolean) => void calls.push(`client reconnects: ${reconnect}`),
  })
  const sentinel = Object.assign(new EventEmitter(), {
    subscribe: async (channel: string) => void calls.push(`subscribe ${channel}`),
    disconnect: () => void calls.push('sentinel ends'),
  })
  const close = followFailovers(client as unknown as Redis, 'fleet', [sentinel as unknown as Redis])
  const report = (to: string, name = 'fleet'): void =>
    void sentinel.emit('message', '+switch-master', `${name} 10.0.0.9 6379 ${to}`)
  return { calls, client, sentinel, report, close }
}

describe('a client that follows failovers', () => {
  it('reconnects when a sentinel reports another primary', () => {
    const { calls, report } = start()
    report('10.0.0.2 6379')
    assert.deepEqual(calls, ['client reconnects: true'])
  })

  it('stays when it is connected to the reported primary, or another primary is meant', () => {
    const { calls, report } = start()
    report('10.0.0.1 6379')
    report('10.0.0.2 6379', 'other')
    assert.deepEqual(calls, [])
    report('10.0.0.1 6380')
    assert.deepEqual(calls, ['client reconnects: true'])
  })

  it('stays when the name of the meant primary only begins or ends like its own', () => {
    const { calls, report } = start()
    for (const name of ['fleet-cache', 'fleet2', 'fle', 'my-fleet', 'Fleet', '']) report('10.0.0.2 6379', name)
    assert.deepEqual(calls, [])
  })

  for (const status of ['connecting', 'reconnecting', 'connect', 'close'])
    it(`waits for its connection if it has the status ${status}`, () => {
      const { calls, client, report } = start()
      client.status = status
      report('10.0.0.2 6379')
      assert.deepEqual(calls, [])
      client.status = 'ready'
      client.emit('ready')
      client.emit('ready')
      assert.deepEqual(calls, ['client reconnects: true'], 'once')
    })

  it('stays if that connection leads to the reported primary', () => {
    const { calls, client, report } = start()
    client.status = 'connecting'
    report('10.0.0.2 6379')
    Object.assign(client, { status: 'ready', stream: { remoteAddress: '10.0.0.2', remotePort: 6379 } })
    client.emit('ready')
    assert.deepEqual(calls, [])
  })

  it('survives a sentinel without a connection, subscribes with each new one, and ends when it is closed', () => {
    const { calls, sentinel, close } = start()
    sentinel.emit('error', new Error('refused'))
    sentinel.emit('ready')
    sentinel.emit('ready')
    close()
    assert.deepEqual(calls, ['subscribe +switch-master', 'subscribe +switch-master', 'sentinel ends'])
  })
})
