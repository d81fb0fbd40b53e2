import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyServerOptions } from 'fastify'
import type { Proxies, TrustProxy } from '../../src/base/client-address.ts'
import { readEnv } from '../../src/base/env.ts'
import { Clients, clientAddress, clientKey, isForwarded } from '../../src/instance/client-key.ts'
import { identity } from '../../src/instance/identity.ts'
import { serverOptions } from '../../src/instance/server-options.ts'

interface Given {
  server?: FastifyServerOptions
  trust?: TrustProxy
}

async function build(t: TestContext, { server = {}, trust }: Given = {}) {
  const warnings: string[] = []
  const stream = { write: (line: string) => warnings.push(JSON.parse(line).msg) }
  const app = Fastify({ logger: { level: 'warn', stream }, ...server })
  t.after(() => app.close())
  await app.register(identity, trust === undefined ? {} : { trustProxy: trust })
  app.get('/', async (request) => ({
    key: clientKey(request),
    address: clientAddress(request),
    narrow: clientKey(request, 56),
    forwarded: isForwarded(request),
    ip: request.ip,
  }))
  await app.ready()
  const send = async (remoteAddress: string, forwarded?: string) => {
    const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded }
    return (await app.inject({ url: '/', remoteAddress, headers })).json()
  }
  const keyOf = async (...args: Parameters<typeof send>): Promise<string> => (await send(...args)).key
  return { app, send: send, keyOf, warnings }
}

describe('the client key', () => {
  it('is the IPv4 address, in every spelling', async (t) => {
    const { keyOf } = await build(t)
    for (const spelling of ['198.51.100.9', '::ffff:198.51.100.9', '::ffff:c633:6409', '0:0:0:0:0:FFFF:198.51.100.9'])
      assert.equal(await keyOf(spelling), '198.51.100.9')
    assert.notEqual(await keyOf('::ffff:198.51.100.10'), '198.51.100.9')
  })

  it('is the /64 network of an IPv6 address, in every spelling and zone', async (t) => {
    const { send, keyOf } = await build(t)
    for (const spelling of [
      '2001:db8:1:2::1',
      '2001:0DB8:0001:0002:ffff:ffff:ffff:ffff',
      '2001:db8:1:2:0:0:198.51.100.9',
      '2001:db8:1:2::9%eth0',
    ])
      assert.equal(await keyOf(spelling), '2001:db8:1:2::/64', spelling)
    assert.equal(await keyOf('2001:db8:1:3::1'), '2001:db8:1:3::/64')
    assert.equal(await keyOf('2001:db8::1'), '2001:db8:0:0::/64')
    assert.equal(await keyOf('::1'), '0:0:0:0::/64')
    assert.equal((await send('2001:db8:1:2ff::1')).narrow, '2001:db8:1:200::/56')
  })

  it('follows X-Forwarded-For only through trusted proxies, whether or not Fastify trusts them', async (t) => {
    for (const server of [{}, { trustProxy: ['127.0.0.1', '10.0.0.0/8'] }, { trustProxy: true }]) {
      const { keyOf, send } = await build(t, { server, trust: ['127.0.0.1', '10.0.0.0/8'] })
      assert.equal(await keyOf('127.0.0.1', '203.0.113.1'), '203.0.113.1')
      assert.equal(await keyOf('::ffff:127.0.0.1', '6.6.6.6, 203.0.113.1, 10.1.1.1'), '203.0.113.1')
      assert.equal(await keyOf('127.0.0.1', '10.2.2.2, 10.1.1.1'), '10.2.2.2')
      assert.equal(await keyOf('198.51.100.1', '203.0.113.1'), '198.51.100.1')
      const peers = await Promise.all(['10.9.9.9', '198.51.100.1'].map((peer) => send(peer, '203.0.113.1')))
      assert.deepEqual(
        peers.map(({ forwarded }) => forwarded),
        [true, false],
      )
      assert.equal(await keyOf('127.0.0.1', '2001:db8:1:2::5'), '2001:db8:1:2::/64')
      assert.equal(await keyOf('127.0.0.1', '203.0.113.1:4711'), '203.0.113.1')
      assert.equal(await keyOf('127.0.0.1', '[2001:db8:1:2::5]:4711'), '2001:db8:1:2::/64')
    }
  })

  it('cannot be chosen by a client: after a malformed entry it is the last trusted proxy', async (t) => {
    for (const given of [{ trust: ['127.0.0.1', '10.0.0.1'] }, { trust: true }, { server: { trustProxy: true } }]) {
      const { keyOf } = await build(t, given)
      for (const odd of [
        'unknown',
        '_hidden',
        '"203.0.113.1"',
        '1.2.3',
        '::1::',
        `${'1'.repeat(9000)}`,
        '1.2.3.4:x',
        '<x>',
      ])
        assert.equal(await keyOf('127.0.0.1', odd), '127.0.0.1', odd)
      assert.equal(await keyOf('127.0.0.1', 'odd, 10.0.0.1'), '10.0.0.1')
      assert.equal(await keyOf('127.0.0.1', ' , ,'), '127.0.0.1')
      assert.equal(await keyOf('127.0.0.1', `fe80::1%${'x'.repeat(20)}`), 'fe80:0:0:0::/64')
      assert.equal(await keyOf('127.0.0.1', `fe80::1%${'x'.repeat(999)}`), '127.0.0.1')
    }
  })

  it('follows at most the configured number of proxies', async (t) => {
    const forwarded = '6.6.6.6, 5.5.5.5, 4.4.4.4'
    for (const [hops, expected] of [
      [0, '127.0.0.1'],
      [1, '4.4.4.4'],
      [2, '5.5.5.5'],
      [9, '6.6.6.6'],
    ] as const) {
      const { keyOf } = await build(t, { trust: hops })
      assert.equal(await keyOf('127.0.0.1', forwarded), expected)
    }
    const { keyOf } = await build(t, { trust: true })
    assert.equal(await keyOf('127.0.0.1', forwarded), '6.6.6.6')
    const long = Array.from({ length: 60 }, (_, n) => `7.7.7.${n}`).join(', ')
    assert.equal(await keyOf('127.0.0.1', long), '7.7.7.28')
  })

  it('follows Fastify if nothing else is configured', async (t) => {
    const forwarded = '6.6.6.6, 203.0.113.1'
    const keys = { undefined: '127.0.0.1', loopback: '203.0.113.1', true: '6.6.6.6' }
    for (const [trustProxy, expected] of Object.entries(keys)) {
      const server = { trustProxy: trustProxy === 'true' ? true : trustProxy === 'loopback' && 'loopback' }
      const { send } = await build(t, { server })
      const { key, ip, forwarded: isProxy } = await send('127.0.0.1', forwarded)
      assert.deepEqual([key, ip, isProxy], [expected, expected, expected !== '127.0.0.1'])
    }
  })

  it('works without any fleet plugin', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    app.get('/', async (request) => clientKey(request))
    assert.equal((await app.inject({ url: '/', remoteAddress: '2001:db8::1' })).body, '2001:db8:0:0::/64')
  })
})

describe('trusted proxies', () => {
  const trustOf = (TRUST_PROXY: string) => readEnv({ TRUST_PROXY }).TRUST_PROXY

  it('accept true, false, a number, names, addresses and networks', () => {
    assert.deepEqual(['true', 'FALSE', '2', '0', ' loopback , 10.0.0.0/8,::1', ''].map(trustOf), [
      true,
      false,
      2,
      0,
      ['loopback', '10.0.0.0/8', '::1'],
      undefined,
    ])
  })

  it('are validated at boot with the variable and the accepted values in the message', () => {
    for (const value of [
      'yes',
      'all',
      '*',
      '33',
      '-1',
      '1.5',
      'front.example.com',
      '10.0.0.0/33',
      '10.0.0.1,,',
      '1,true',
    ])
      assert.throws(() => trustOf(value), {
        code: 'FLEET_ERR_ENV_INVALID',
        message:
          /^(?:.*: )?TRUST_PROXY must be true, false, a number of proxies from 0 to 32, or a comma-separated list/,
      })
  })

  it('are equal for Fastify and limits with serverOptions()', async (t) => {
    t.after(() => delete process.env.TRUST_PROXY)
    for (const [value, expected] of [
      ['true', '6.6.6.6'],
      ['1', '203.0.113.1'],
      ['loopback', '203.0.113.1'],
      ['false', '127.0.0.1'],
    ] as const) {
      process.env.TRUST_PROXY = value
      const { send, warnings } = await build(t, { server: { trustProxy: serverOptions().trustProxy } })
      const { key, ip } = await send('127.0.0.1', '6.6.6.6, 203.0.113.1')
      assert.deepEqual([key, ip], [expected, expected], value)
      assert.equal(warnings.length, value === 'true' ? 1 : 0)
    }
  })

  it('are remembered, a bounded number of them', (t) => {
    const clients = new Clients(['10.0.0.0/8'], 'trustProxy')
    const trusts = t.mock.method(clients.proxies as Proxies, 'trusts')
    const calls = (peer: string): number => {
      const before = trusts.mock.callCount()
      assert.equal(clients.trusts(peer), peer.startsWith('10.'))
      return trusts.mock.callCount() - before
    }
    assert.deepEqual([calls('10.1.2.3'), calls('10.1.2.3')], [1, 0])
    for (let i = 0; i < 10_000; i++) calls(`192.0.${i >> 8}.${i & 255}`)
    assert.equal(calls('10.1.2.3'), 1)
  })

  it('cause one warning each if Fastify does not trust them, or if all are trusted', async (t) => {
    const { warnings } = await build(t, { trust: ['loopback'] })
    assert.equal(warnings.length, 1)
    assert.match(warnings[0] ?? '', /serverOptions\(\)/)
    for (const trust of [true, ['0.0.0.0/0']]) {
      const everyone = await build(t, { trust, server: { trustProxy: true } })
      assert.equal(everyone.warnings.length, 1)
      assert.match(everyone.warnings[0] ?? '', /trusts every address/)
    }
    for (const trust of [false, 0, []]) assert.deepEqual((await build(t, { trust })).warnings, [])
  })

  it('cause a warning if Fastify trusts others', async (t) => {
    const others: [TrustProxy, FastifyServerOptions['trustProxy']][] = [
      [false, true],
      [['loopback'], true],
      [['10.0.0.0/8'], 'loopback'],
      [
        ['10.0.0.0/8', 'loopback'],
        ['10.1.0.0/16', '127.0.0.1'],
      ],
      [['192.0.2.7'], '192.0.2.8'],
      [['loopback'], (_, hop) => hop < 2],
      [1, (_, hop) => hop < 2],
      [1, true],
      [['fc00::/7'], () => false],
    ]
    for (const [trust, trustProxy] of others) {
      const { warnings } = await build(t, { trust, server: { trustProxy } })
      assert.equal(warnings.length, 1, `${trust} ${trustProxy}`)
      assert.match(warnings[0] ?? '', /another `trustProxy`.*serverOptions\(\)/)
    }
  })

  it('cause no warning if Fastify trusts the same', async (t) => {
    const same: [TrustProxy | undefined, FastifyServerOptions['trustProxy']][] = [
      [undefined, true],
      [['loopback'], 'loopback'],
      [
        ['10.0.0.0/8', 'loopback'],
        ['10.0.0.0/8', '127.0.0.0/8', '::1'],
      ],
      [1, (_, hop) => hop < 1],
      [32, (_, hop) => hop < 32],
      [['uniquelocal', '192.0.2.7'], 'uniquelocal, 192.0.2.7'],
      [['loopback'], () => JSON.parse('')],
    ]
    for (const [trust, trustProxy] of same)
      assert.deepEqual((await build(t, { trust, server: { trustProxy } })).warnings, [], `${trust} ${trustProxy}`)
  })
})
