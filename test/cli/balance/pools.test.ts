import assert from 'node:assert/strict'
import { Resolver } from 'node:dns/promises'
import { describe, it, type TestContext } from 'node:test'
import { poolsFrom, routesFrom } from '../../../src/cli/balance/pools.ts'
import { isSource, parseTargetList } from '../../../src/cli/balance/targets.ts'
import command, { parseDiscover, parseListen, parseTargetOption } from '../../../src/cli/commands/balance.ts'
import type { Found, Source } from '../../../src/edge/balancer/discovery.ts'
import { Peers } from '../../../src/state/registry/peers.ts'
import { RedisDirectory } from '../../../src/state/registry/redis-directory.ts'
import { startUpstreams } from '../../edge/upstream.ts'
import { freePort } from '../../helpers/free-port.ts'
import { until } from '../../helpers/until.ts'
import { runCommand } from '../commands.ts'

/** The first list of a source. */
async function listOf(t: TestContext, source: Source | undefined): Promise<readonly Found[]> {
  const lists: (readonly Found[])[] = []
  t.after(source?.((list) => void lists.push(list)) ?? assert.fail('no source'))
  return await until(() => lists[0])
}

describe('the command line of fleet balance', () => {
  it('reads listen addresses and target options', () => {
    assert.deepEqual(parseListen('8080'), { host: '0.0.0.0', port: 8080 })
    assert.deepEqual(parseListen('127.0.0.1:80'), { host: '127.0.0.1', port: 80 })
    assert.deepEqual(parseListen('[::1]:80'), { host: '::1', port: 80 })
    assert.deepEqual(parseTargetOption('http://a:1,weight=50,backup,max=9'), {
      url: 'http://a:1',
      weight: 50,
      backup: true,
      maxConnections: 9,
    })
    for (const text of ['', 'x', '99999', ':80', '1.2.3.4:', '[zz]:1', '[1.2]:1', '[1::2::3]:1'])
      assert.throws(() => parseListen(text), { code: 'FLEET_ERR_USAGE' })
    for (const text of ['http://a,x', 'http://a,weight=x', 'http://a,backup=1'])
      assert.throws(() => parseTargetOption(text), { code: 'FLEET_ERR_USAGE' })
  })

  it('parses the sources of targets', () => {
    for (const text of ['dns+http://app:3000', 'srv+https://_http._tcp.app', 'registry']) assert.ok(parseDiscover(text))
    for (const text of ['', 'dns+ftp://x', 'http://x', 'dns+http://']) {
      assert.throws(() => parseDiscover(text), { code: 'FLEET_ERR_USAGE' })
    }
  })

  it('reads the pools of a command line', () => {
    const routes = routesFrom('/api/v2=v2 //shop=shop', '--route')
    const none = { target: [], discover: undefined, pool: [], policy: [], canary: [], routes: [] }
    const given = {
      ...none,
      target: ['http://a:1'],
      pool: ['v2=b:1,weight=5,canary,https://c:2', 'v2=d', 'shop=dns+http://shop:3000'],
      policy: ['random', 'v2=least-connections'],
      canary: ['v2=2.5'],
      routes,
    }
    const pools = poolsFrom(given)
    assert.deepEqual(Object.keys(pools), ['default', 'v2', 'shop'])
    assert.deepEqual(pools.default?.targets, [{ url: 'http://a:1' }])
    assert.deepEqual(pools.v2?.targets, [
      { url: 'http://b:1', weight: 5, canary: true },
      { url: 'https://c:2' },
      { url: 'http://d' },
    ])
    assert.equal(typeof pools.shop?.discover, 'function')
    assert.deepEqual(
      Object.values(pools).map(({ policy }) => policy),
      ['random', 'least-connections', 'random'],
    )
    assert.deepEqual(
      Object.values(pools).map(({ canaryPercent }) => canaryPercent),
      [0, 2.5, 0],
    )
    const live = poolsFrom({ ...none, discover: 'registry', routes })
    assert.deepEqual(
      Object.values(live).map(({ discover }) => typeof discover),
      ['function', 'function', 'function'],
    )
    for (const [change, message] of [
      [{ pool: ['v2=b:1'] }, /names the pool shop, which does not exist; add --pool shop=/],
      [{ pool: ['b:1'] }, /--pool b:1 is not NAME=TARGETS/],
      [{ pool: ['V2=b:1'] }, /--pool V2=b:1 is not NAME=TARGETS/],
      [{ pool: ['v2='] }, /--pool v2= is not NAME=TARGETS/],
      [{ pool: ['v2=registry', 'v2=dns+http://x:1'] }, /the pool v2 has two sources/],
      [{ pool: ['v2=b:1,weight=x'] }, /--pool: weight=x must be/],
      [{ policy: ['v9=random'] }, /names the pool v9/],
      [{ canary: ['v9=5'] }, /names the pool v9/],
      [{ policy: ['v2=x'] }, /--policy must be one of/],
      [{ canary: ['v2=101'] }, /--canary must be a number from 0 to 100/],
      [{ target: [], pool: [], routes: [] }, /missing --target/],
    ] as const) {
      assert.throws(() => poolsFrom({ ...given, ...change }), { code: 'FLEET_ERR_USAGE', message })
    }
    assert.throws(() => routesFrom('x', 'FLEET_ROUTES'), {
      code: 'FLEET_ERR_USAGE',
      message: /FLEET_ROUTES: "x" is not/,
    })
  })

  it('separates targets by commas, each with its options', () => {
    assert.deepEqual(parseTargetList('a:3000,weight=50,b:3000,backup,canary,https://c,max=3', '--pool'), [
      { url: 'http://a:3000', weight: 50 },
      { url: 'http://b:3000', backup: true, canary: true },
      { url: 'https://c', maxConnections: 3 },
    ])
    assert.deepEqual(['registry', 'dns+http://x', 'srv+http://x', 'a:1', 'dns', 'registry2'].map(isSource), [
      true,
      true,
      true,
      false,
      false,
      false,
    ])
  })

  it('accepts ports up to 65535 and percentages from 0 to 100', () => {
    assert.equal(parseListen('65535').port, 65_535)
    assert.equal(parseListen('0', '127.0.0.1').host, '127.0.0.1')
    assert.throws(() => parseListen('65536'), { code: 'FLEET_ERR_USAGE' })
    const none = { discover: undefined, pool: [], policy: [], routes: [] }
    const percent = (text: string) =>
      poolsFrom({ ...none, target: ['http://a'], canary: [text] }).default?.canaryPercent
    assert.deepEqual(['0', '100', '0.0001', 'default=7'].map(percent), [0, 100, 0.0001, 7])
    for (const text of ['100.1', '101', '-1', '1.', '0.00001', 'x', '']) {
      assert.throws(() => percent(text), { code: 'FLEET_ERR_USAGE' }, text)
    }
  })

  it('takes the policy of a pool, else that of all', () => {
    const flags = { target: ['http://a'], discover: undefined, pool: ['b=x:1'], canary: [], routes: [] }
    const policies = (...policy: string[]) => Object.values(poolsFrom({ ...flags, policy })).map((pool) => pool.policy)
    assert.deepEqual(policies(), [undefined, undefined])
    assert.deepEqual(policies('random'), ['random', 'random'])
    assert.deepEqual(policies('b=random'), [undefined, 'random'])
    assert.deepEqual(policies('b=random', 'least-connections'), ['least-connections', 'random'])
  })

  it('takes the share for canaries of a pool, else that of all', () => {
    const flags = { target: ['http://a'], discover: undefined, pool: ['b=x:1'], policy: [], routes: [] }
    const shares = Object.values(poolsFrom({ ...flags, canary: ['b=20', '5'] })).map((pool) => pool.canaryPercent)
    assert.deepEqual(shares, [5, 20])
  })

  it('takes instances of the color canary for canaries, in a pool with a share for them', async (t) => {
    const peers = ['blue', 'canary'].map((color) => ({ id: color, color, host: 'h', port: 1, state: 'serving' }))
    t.mock.method(RedisDirectory.prototype, 'beat', async () => [])
    t.mock.method(Peers.prototype, 'apply', () => false)
    t.mock.method(Peers.prototype, 'list', () => [...peers, { ...peers[1], id: 'v2', pool: 'v2' }])
    const before = process.env
    process.env = { ...before, REDIS_URL: 'redis://127.0.0.1:1', FLEET_SECRET: 's'.repeat(32) }
    t.after(() => {
      process.env = before
    })
    const flags = { target: [], discover: 'registry', pool: [], policy: [], routes: routesFrom('/v2=v2', '--route') }
    for (const [canary, expected] of [
      [['default=5'], { default: ['blue false', 'canary true'], v2: ['v2 undefined'] }],
      [['v2=5'], { default: ['blue undefined', 'canary undefined'], v2: ['v2 true'] }],
    ] as const) {
      for (const [name, { discover }] of Object.entries(poolsFrom({ ...flags, canary }))) {
        const found = await listOf(t, discover)
        assert.deepEqual(
          found.map(({ id, canary }) => `${id} ${canary}`),
          expected[name as 'v2'],
        )
      }
    }
  })

  it('asks name servers for addresses with dns, and for records with srv', async (t) => {
    const asked: string[] = []
    for (const kind of ['resolve4', 'resolve6', 'resolveSrv'] as const)
      t.mock.method(Resolver.prototype, kind, async (name: string) => {
        asked.push(`${kind} ${name}`)
        return kind === 'resolve4' ? ['10.0.0.1'] : kind === 'resolveSrv' ? [{ name: 'b', port: 7, weight: 0 }] : []
      })
    assert.equal((await listOf(t, parseDiscover('dns+http://a:3000')))[0]?.url, 'http://10.0.0.1:3000')
    assert.equal((await listOf(t, parseDiscover('srv+http://_http.a')))[0]?.url, 'http://b:7')
    assert.deepEqual(asked, ['resolve4 a', 'resolve6 a', 'resolveSrv _http.a'])
  })

  it('ends with an error for a port in use', async () => {
    const [upstream] = await startUpstreams(1)
    const port = new URL(upstream?.url ?? '').port
    const { code, stderr } = await runCommand(
      command,
      '--listen',
      `127.0.0.1:${port}`,
      '--target',
      `http://127.0.0.1:${await freePort()}`,
    )
    assert.equal(code, 1)
    assert.match(stderr, /FLEET_ERR_PORT_TAKEN/)
  })

  it('takes the routes of --route, else those of FLEET_ROUTES', async (t) => {
    process.env.FLEET_ROUTES = '/y=of-environment'
    t.after(() => delete process.env.FLEET_ROUTES)
    const target = ['--target', 'http://a']
    assert.match((await runCommand(command, ...target)).stderr, /a route names the pool of-environment,/)
    const { stderr } = await runCommand(command, ...target, '--route', '/x=of-option')
    assert.match(stderr, /a route names the pool of-option,/)
  })

  it('reports an invalid command line', async () => {
    for (const [args, expected] of [
      [['--target', 'nonsense'], 'FLEET_ERR_TARGET_INVALID'],
      [['--target', 'http://a', '--policy', 'x'], 'FLEET_ERR_USAGE'],
      [['--target', 'http://a', '--listen', 'x'], 'FLEET_ERR_USAGE'],
      [[], 'FLEET_ERR_USAGE'],
      [['--target', 'http://a', '--route', '/x=v2'], 'FLEET_ERR_USAGE .*a route names the pool v2'],
      [['--target', 'http://a', '--route', 'x'], 'FLEET_ERR_USAGE .*--route: "x" is not MATCH=POOL'],
      ...[
        ['--pool', 'v2=b:1'],
        ['--route', '/x=default'],
        ['--admin', '0'],
      ].map(
        (more) => [['--target', 'http://a', '--tcp', ...more], 'FLEET_ERR_USAGE .*--tcp cannot be combined'] as const,
      ),
    ] as const) {
      const { code, stderr } = await runCommand(command, ...args)
      assert.notEqual(code, 0)
      assert.match(stderr, new RegExp(expected))
    }
  })
})
