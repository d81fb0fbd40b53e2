import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { Peer } from '../../../src/instance/identity.ts'
import { FleetKeys, fleetSecrets, secretsOf } from '../../../src/state/registry/fleet-keys.ts'
import { namesOf, SignedEntries } from '../../../src/state/registry/signed-entries.ts'

const start = Date.parse('2026-01-01T00:00:00Z')
const secret = 's'.repeat(32)
const keys = (secrets: string[] = [secret], name = 'shop', purpose = 'registry') =>
  new FleetKeys(secrets, purpose, name)
const peer: Peer = {
  ...{ id: 'a', host: 'host-a', pid: 7, port: 3000, weight: 100, pool: 'default', state: 'serving' },
  ...{ version: '1.0.0', color: 'blue', startedAt: new Date(start).toISOString(), lastSeen: '', failing: ['redis'] },
  ...{ rps: 1.5, errorRate: 0.5, p95: 20, eventLoopUtilization: 0.25, memory: 4096 },
  ...{ checks: ['redis!', 'disk', 'mail'], degraded: ['mail'] },
} as Peer

function clock(t: TestContext): (ms: number) => void {
  let now = start
  t.mock.method(Date, 'now', () => now)
  return (ms) => {
    now = start + ms
  }
}
const entriesOf = (fleetKeys = keys()): SignedEntries => new SignedEntries(fleetKeys)
/** `opened`, or why the entry is ignored. */
const outcome = (opened: unknown): string => (typeof opened === 'string' ? opened : 'opened')

describe('a signed entry', () => {
  test('is opened as it was signed, without its figures', (t) => {
    clock(t)
    const { facts, load } = entriesOf().seal('boot', peer)
    const { rps, errorRate, p95, eventLoopUtilization, memory, degraded, lastSeen: _, ...rest } = peer
    assert.deepEqual(entriesOf().open('a', `boot ${facts}`), { facts: rest, boot: 'boot', signedAt: start })
    assert.deepEqual(entriesOf().openLoad('a', 'boot', load), {
      ...{ rps, errorRate, p95, eventLoopUtilization, memory },
      degraded: 4,
    })
    assert.deepEqual(namesOf(peer.checks, 4), degraded)
  })

  test('is valid for just under 15 minutes, and from just under 5 minutes ahead', (t) => {
    const at = clock(t)
    const { facts, load } = entriesOf().seal('boot', peer)
    for (const [ms, expected] of [
      [899_999, 'opened'],
      [900_000, 'stale'],
      [-299_999, 'opened'],
      [-300_000, 'stale'],
    ] as const) {
      at(ms)
      assert.equal(outcome(entriesOf().open('a', `boot ${facts}`)), expected, `${ms} ms`)
      assert.equal(outcome(entriesOf().openLoad('a', 'boot', load)), expected, `${ms} ms`)
    }
  })

  test('is signed again after 5 minutes, after a change, and when asked to', (t) => {
    const at = clock(t)
    const entries = entriesOf()
    const signedAt = (changed: object = {}, anew = false): number => {
      const opened = entriesOf().open('a', `boot ${entries.seal('boot', { ...peer, ...changed }, anew).facts}`)
      return typeof opened === 'string' ? Number.NaN : opened.signedAt - start
    }
    assert.equal(signedAt(), 0)
    at(299_999)
    assert.equal(signedAt({ rps: 9, lastSeen: 'now' }), 0, 'figures are no facts')
    at(300_000)
    assert.equal(signedAt(), 300_000)
    at(300_001)
    assert.equal(signedAt({ state: 'draining' }), 300_001)
    at(300_002)
    assert.equal(signedAt({ state: 'draining' }, true), 300_002)
  })

  test('is signed later than the last one even if the clock is set back', (t) => {
    const at = clock(t)
    const entries = entriesOf()
    entries.seal('boot', peer)
    at(-3_600_000)
    const opened = (): unknown => JSON.parse(entries.seal('boot', { ...peer, weight: 1 }).facts).signedAt
    assert.equal(opened(), start + 1)
  })

  test('is signed again with new secrets', () => {
    const secrets = [secret]
    const entries = entriesOf(keys(secrets))
    const before = entries.seal('boot', peer).facts
    secrets.unshift('n'.repeat(32))
    const after = entries.seal('boot', peer).facts
    const reader = entriesOf(keys(['n'.repeat(32)]))
    assert.deepEqual(
      [before, after].map((facts) => outcome(reader.open('a', `boot ${facts}`))),
      ['signature', 'opened'],
    )
  })

  test('is bound to the id, the process, the fleet, the purpose and the secret', () => {
    const { facts, load } = entriesOf().seal('boot', peer)
    assert.equal(entriesOf().open('b', `boot ${facts}`), 'signature')
    assert.equal(entriesOf().open('a', `other ${facts}`), 'signature')
    assert.equal(entriesOf().openLoad('b', 'boot', load), 'signature')
    assert.equal(entriesOf().openLoad('a', 'other', load), 'signature')
    for (const other of [
      keys(['x'.repeat(32)]),
      keys([secret], 'bank'),
      keys([secret], 'shop', 'broadcast'),
      keys([]),
    ]) {
      assert.equal(entriesOf(other).open('a', `boot ${facts}`), 'signature')
      assert.equal(entriesOf(other).openLoad('a', 'boot', load), 'signature')
    }
  })

  test('is rejected after any change, also of its time', () => {
    const { facts, load } = entriesOf().seal('boot', peer)
    for (const changed of [
      facts.replace('"weight":100', '"weight":101'),
      facts.replace(/"signedAt":\d/, '"signedAt":2'),
    ])
      assert.equal(entriesOf().open('a', `boot ${changed}`), 'signature')
    for (const changed of [load.replace('[1.5', '[2.5'), load.replace(/,\d(\d{12}),/, ',2$1,')])
      assert.equal(entriesOf().openLoad('a', 'boot', changed), 'signature')
  })

  test('without a signature in its place is unsigned', () => {
    const { facts, load } = entriesOf().seal('boot', peer)
    for (const text of [
      '',
      'boot',
      facts,
      `boot ${facts} `,
      `boot ${facts.slice(0, -1)}`,
      `boot ${JSON.stringify(peer)}`,
    ])
      assert.equal(entriesOf().open('a', text), 'unsigned', text)
    assert.equal(entriesOf().open('a', `${'b'.repeat(65)} ${facts}`), 'unsigned')
    assert.equal(entriesOf().open('a', `${'b'.repeat(64)} ${facts}`), 'signature')
    for (const text of ['', '[1,2,3,4]', `${load} `, load.slice(0, -1), load.replace(/"[\w-]{43}"/, '""')])
      assert.equal(entriesOf().openLoad('a', 'boot', text), 'unsigned', text)
  })
})

describe('the facts of a correctly signed entry', () => {
  const open = (changed: object, id = 'a'): string =>
    outcome(entriesOf().open(id, `boot ${entriesOf().seal('boot', { ...peer, ...changed, id } as Peer).facts}`))
  const long = 'x'.repeat(255)

  for (const [name, good, bad] of [
    ['host', ['h', long, '::1'], ['', `${long}x`, 1, undefined, 'a b', 'a/b', 'a@b', 'a?b', 'a#b', 'a\\b', 'a\n']],
    ['version', ['1', long], ['', `${long}x`, 1, undefined, null]],
    ['color', ['blue', long], ['', `${long}x`, 1, undefined, null]],
    ['startedAt', ['now', long], ['', `${long}x`, 1, undefined, null]],
    ['region', [undefined, 'eu', long], ['', `${long}x`, 1, null]],
    ['zone', [undefined, 'eu-1', long], ['', `${long}x`, 1, null]],
    ['pid', [0, 1, Number.MAX_SAFE_INTEGER], [-1, 0.5, '1', undefined, null, Number.MAX_SAFE_INTEGER + 1]],
    ['port', [undefined, 1, 65_535], [0, 65_536, 1.5, '1', null]],
    ['weight', [0, 1000], [-1, 1001, 0.5, '1', undefined]],
    ['pool', [undefined, 'v2'], ['', 'V 2', 1, null]],
    ['state', ['starting', 'serving', 'draining', 'closed'], ['', 'dead', 1, undefined, null]],
    ['failing', [[], ['a', 'b']], ['a', undefined, null, {}, [1], ['a', null]]],
  ] as [string, unknown[], unknown[]][])
    test(`have a valid ${name}`, () => {
      for (const value of good) assert.equal(open({ [name]: value }), 'opened', JSON.stringify(value))
      for (const value of bad) assert.equal(open({ [name]: value }), 'malformed', JSON.stringify(value))
    })

  test('name the id under which they are stored', () => {
    const fleet = keys()
    const signed = `${JSON.stringify({ ...peer, id: 'b' }).slice(0, -1)},"signedAt":${Date.now()}`
    const text = `boot ${signed},"mac":"${fleet.sign('facts', 'a', 'boot', signed)}"}`
    assert.equal(entriesOf().open('a', text), 'malformed')
  })

  test('are JSON, and figures are a list of numbers, of which missing ones are 0', () => {
    const fleet = keys()
    const now = Date.now()
    const signed = `{"id":a,"signedAt":${now}`
    assert.equal(
      entriesOf().open('a', `boot ${signed},"mac":"${fleet.sign('facts', 'a', 'boot', signed)}"}`),
      'malformed',
    )
    const load = (values: string): unknown =>
      entriesOf().openLoad('a', 'boot', `${values},${now},"${fleet.sign('load', 'a', 'boot', `${values},${now}`)}"]`)
    for (const values of ['["1"', '[null', '[1,2,3,[4]', '[1,', '{"a":1', '[1e999'])
      assert.equal(load(values), 'malformed', values)
    // As those of an instance of an earlier version.
    assert.deepEqual(load('[1,2'), { rps: 1, p95: 2, eventLoopUtilization: 0, memory: 0, errorRate: 0, degraded: 0 })
    const { load: sealed } = entriesOf().seal('boot', { ...peer, rps: Number.NaN, p95: undefined } as never)
    assert.match(sealed, /^\[0,0,0\.25,4096,0\.5,4,/)
  })
})

describe('the keys of a fleet', () => {
  test('prefer FLEET_SECRET, then SESSION_SECRET, then JWT_SECRET', () => {
    const [fleet, session, jwt] = [['f'], ['s1', 's2'], 'j']
    const of = (env: object): unknown => secretsOf(env as never)
    assert.deepEqual(of({ FLEET_SECRET: fleet, SESSION_SECRET: session, JWT_SECRET: jwt }), ['FLEET_SECRET', fleet])
    assert.deepEqual(of({ SESSION_SECRET: session, JWT_SECRET: jwt }), ['SESSION_SECRET', session])
    assert.deepEqual(of({ JWT_SECRET: jwt }), ['JWT_SECRET', [jwt]])
    assert.equal(of({}), undefined)
  })

  test('are those of the option rather than of the environment, for all plugins of an app', async (t) => {
    const before = process.env.SESSION_SECRET
    process.env.SESSION_SECRET = 'e'.repeat(32)
    t.after(() => {
      if (before === undefined) delete process.env.SESSION_SECRET
      else process.env.SESSION_SECRET = before
    })
    const app = () => ({ fleet: {} }) as never
    const one = app()
    assert.deepEqual(await fleetSecrets(one, ['`broadcast.secret`', secret]), [secret])
    assert.deepEqual(await fleetSecrets(one), [secret])
    assert.deepEqual(await fleetSecrets(app()), ['e'.repeat(32)])
  })

  test('sign with the first secret, verify with all, and reject a signature of another length', () => {
    const [a, b] = ['a'.repeat(32), 'b'.repeat(32)]
    const both = keys([a, b])
    assert.equal(both.sign('x'), keys([a]).sign('x'))
    assert.equal(both.verify(keys([b]).sign('x'), 'x'), true)
    assert.equal(keys([a]).verify(keys([b]).sign('x'), 'x'), false)
    const signature = both.sign('x')
    assert.equal(signature.length, 43)
    for (const other of ['', signature.slice(0, -4), `${signature}AAAA`]) assert.equal(both.verify(other, 'x'), false)
    assert.equal(both.verify(signature, 'x', ''), false)
    assert.equal(keys([]).sign('x'), '')
  })
})
