import assert from 'node:assert/strict'
import { isIP, Socket } from 'node:net'
import { FleetError } from '../../../src/base/errors.ts'
import { networks } from '../../../src/base/networks.ts'
import { Origins } from '../../../src/edge/http/origins.ts'
import type { Target } from '../engine/target.ts'

const lists = [[], ['loopback'], ['loopback', '10.0.0.0/8', 'fc00::/7'], ['0.0.0.0/0', '::/0']]
const peers = ['127.0.0.1', '::1', '::ffff:10.1.2.3', '203.0.113.9', '']

/** The client's address is always valid, and never forged by an untrusted peer. */
export default {
  seeds: [
    '1.2.3.4',
    '10.0.0.1, 127.0.0.1',
    'unknown, ::1, 1.1.1.1',
    '[::1]:80, 1.2.3.4:5',
    ',,,',
    '::ffff:10.0.0.1,::ffff:a00:1',
    '10.0.0.0/8',
  ],
  dictionary: [
    ',',
    ' ',
    '\t',
    '::ffff:',
    '127.0.0.1',
    '10.0.0.1',
    '::1',
    '%eth0',
    '/0',
    '/128',
    '/129',
    'for="',
    '\xa0',
    '010.0.0.1',
    '0x7f.1',
  ],
  maxBytes: 512,
  run(input) {
    const text = input.toString('latin1')
    let accepted = 'rejected'
    try {
      const parsed = networks(text.split(','), 'trustProxy')
      for (const peer of peers) parsed.includes(peer)
      parsed.includes(text)
      accepted = 'networks'
    } catch (error) {
      assert.ok(error instanceof FleetError, String(error))
    }
    const outcomes = lists.flatMap((list) => {
      const origins = new Origins(list, 'trustProxy')
      return peers.map((peer) => {
        const socket = new Socket()
        Object.defineProperty(socket, 'remoteAddress', { value: peer || undefined })
        const origin = origins.of(socket)
        const client = origins.client(origin, text)
        assert.ok(client === origin.address || isIP(client) !== 0, client)
        if (!origin.trusted) assert.equal(client, origin.address)
        const element = origin.element(text)
        if (element !== undefined) assert.doesNotMatch(element, /[\r\n\0]/)
        return `${client === origin.address} ${element !== undefined}`
      })
    })
    return `${accepted} ${outcomes.join(' ')}`
  },
} satisfies Target
