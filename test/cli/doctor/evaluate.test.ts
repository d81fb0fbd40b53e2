import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { evaluate } from '../../../src/cli/doctor/evaluate.ts'
import { type Fact, violation } from '../../../src/cli/doctor/facts.ts'
import { at, type Front, front, type Instance, instance, variables } from './readings.ts'

describe('the rule', () => {
  const codes = (readings: readonly (Instance | Front)[], longestMs = 10_000): string[] =>
    evaluate(readings, { longestMs }).findings.map(({ code }) => code)
  /** Finds the code with the second reading only, which is one millisecond beyond the first. */
  const boundary = (
    code: string,
    within: readonly (Instance | Front)[],
    beyond: typeof within,
    longestMs?: number,
  ): void => {
    assert.deepEqual(codes(within, longestMs), [], 'within')
    assert.deepEqual(codes(beyond, longestMs), [code], 'beyond')
  }

  it('of timeouts holds exactly up to its limit', () => {
    const keepAliveMs = at(10_000)
    boundary(
      'DOCTOR_KEEPALIVE',
      [front({ idleMs: at(9_999) }), instance({ keepAliveMs })],
      [front({ idleMs: at(10_000) }), instance({ keepAliveMs })],
    )
    boundary('DOCTOR_KEEPALIVE', [front({ idleMs: at(71_999) })], [front({ idleMs: at(72_000) })])
    boundary(
      'DOCTOR_NOTICE',
      [front({ noticeMs: at(5_000) }), instance()],
      [front({ noticeMs: at(5_001) }), instance()],
    )
    const preStopMs = at(2_000)
    boundary(
      'DOCTOR_NOTICE',
      [front({ noticeMs: at(7_000) }), instance({ preStopMs })],
      [front({ noticeMs: at(7_001) }), instance({ preStopMs })],
    )
    boundary('DOCTOR_AVOID', [front({ avoidMs: at(5_001) }), instance()], [front({ avoidMs: at(5_000) }), instance()])
    boundary('DOCTOR_SHUTDOWN', [instance({}, { DRAIN_DELAY: '20000' })], [instance({}, { DRAIN_DELAY: '20001' })])
    boundary(
      'DOCTOR_SHUTDOWN',
      [instance({}, { SHUTDOWN_TIMEOUT: '15000' })],
      [instance({}, { SHUTDOWN_TIMEOUT: '14999' })],
    )
    boundary('DOCTOR_GRACE', [instance({ graceMs: at(32_000) })], [instance({ graceMs: at(31_999) })])
    boundary(
      'DOCTOR_GRACE',
      [instance({ graceMs: at(34_000), preStopMs })],
      [instance({ graceMs: at(33_999), preStopMs })],
    )
    boundary('DOCTOR_DEREGISTER', [front({ deregisterMs: at(30_000) })], [front({ deregisterMs: at(29_999) })])
  })

  it('of timeouts does not apply to a value that is elsewhere, and names it', () => {
    const elsewhere = instance({}, { DRAIN_DELAY: undefined })
    const { findings, unjudged } = evaluate([front({ avoidMs: at(1) }), elsewhere], { longestMs: 1 })
    assert.deepEqual(findings, [])
    assert.deepEqual(
      unjudged.map(({ why, codes: of }) => [why, of]),
      [
        ['the value of drain is not known', ['DOCTOR_AVOID']],
        ['the value of drain is not known', ['DOCTOR_SHUTDOWN']],
      ],
    )
    assert.deepEqual(codes([front({ avoidMs: at(1) }), instance({}, { DRAIN_DELAY: '' })]), ['DOCTOR_AVOID'])
  })

  it('names both sides, with the place of the other one', () => {
    const { findings } = evaluate([front({ noticeMs: at(9_000, 3) }), instance({}, { DRAIN_DELAY: '5000' })], {
      longestMs: 1,
    })
    const [finding] = findings
    const { message, line } = finding ?? {}
    assert.match(message ?? '', /^notice 9 s must be ≤ preStop 0 ms \+ drain 5 s \(f:11\): otherwise/)
    assert.equal(line, 3)
  })

  it('of probes accepts readiness and liveness at their own paths only', () => {
    for (const [path, found] of [
      ['/ready', []],
      ['/x/ready', []],
      ['/health', ['DOCTOR_READINESS_PATH']],
      ['/ready/x', ['DOCTOR_READINESS_PATH']],
    ] as const) {
      assert.deepEqual(codes([instance({ readiness: at(path) })]), found, path)
      assert.deepEqual(codes([front({ readiness: at(path) })]), found, path)
    }
    for (const [path, found] of [
      ['/live', []],
      ['/alive', []],
      ['/ready', ['DOCTOR_LIVENESS_PATH']],
    ] as const)
      assert.deepEqual(codes([instance({ liveness: at(path) })]), found, path)
  })

  it('of signals rejects a command that does not pass them on', () => {
    for (const [command, lost] of [
      ['npm start', true],
      ['/usr/bin/yarn run x', true],
      ['npx fleet start', true],
      ['sh -c node app.js', true],
      ['/bin/bash -c exec node app.js', false],
      ['node app.js', false],
      ['npm-run x', true],
      ['supernpm x', false],
    ] as const)
      assert.deepEqual(codes([instance({ command: at(command) })]), lost ? ['DOCTOR_SIGNALS'] : [], command)
  })

  it('of several copies rejects a shared id, and state in memory', () => {
    const copies = at(2)
    assert.deepEqual(codes([instance({ copies }, { INSTANCE_ID: 'a' })]), ['DOCTOR_INSTANCE_ID'])
    assert.deepEqual(codes([instance({ copies: at(1) }, { INSTANCE_ID: 'a' })]), [])
    assert.deepEqual(codes([instance({ copies, unseen: 'none' })]), ['DOCTOR_STATE_IN_MEMORY'])
    assert.deepEqual(codes([instance({ copies: at(1), unseen: 'none' })]), [])
    assert.deepEqual(codes([instance({ copies, unseen: 'secrets' })]), [])
    for (const name of ['REDIS_URL', 'REDIS_URL_FILE', 'REDIS_HOST', 'REDIS_SENTINELS', 'REDIS_CLUSTER'])
      assert.deepEqual(codes([instance({ copies, unseen: 'none' }, { [name]: undefined })]), [], name)
    for (const value of ['1', 'true'])
      assert.deepEqual(codes([instance({ copies }, { FLEET_ALLOW_MEMORY: value })]), ['DOCTOR_STATE_IN_MEMORY'])
    assert.deepEqual(codes([instance({ copies }, { FLEET_ALLOW_MEMORY: '0' })]), [])
  })

  it('of trust rejects everyone, and an instance behind a front that trusts nobody', () => {
    for (const value of ['*', 'true', 'all', '10.0.0.1, 0.0.0.0/0', '::/0'])
      assert.ok(codes([instance({}, { TRUST_PROXY: value })]).includes('DOCTOR_TRUST_EVERYONE'), value)
    for (const value of ['10.0.0.1', 'loopback', '10.0.0.0/8'])
      assert.deepEqual(codes([instance({}, { TRUST_PROXY: value })]), [], value)
    const untrusting = instance({ unseen: 'none', env: variables({ PORT: '3000' }) })
    assert.deepEqual(codes([untrusting]), [])
    assert.deepEqual(codes([untrusting, front({})]), ['DOCTOR_TRUST_MISSING'])
    assert.deepEqual(codes([{ ...untrusting, unseen: 'any' }, front({})]), [])
    assert.deepEqual(codes([{ ...untrusting, env: new Map() }, front({})]), [])
    assert.deepEqual(
      codes([untrusting, front({ source: 'alb' })]),
      ['DOCTOR_TRUST_MISSING'],
      'without its own kind, of all',
    )
    const task = instance({ source: 'ecs' })
    assert.deepEqual(codes([untrusting, task, front({ source: 'alb' })]), [], 'the task is behind it')
  })

  it('of values reports what an instance would reject, without secrets in files', () => {
    for (const name of ['PORT', 'REDIS_URL', 'DATABASE_URL', 'DATABASE_REPLICA_URLS'])
      assert.deepEqual(codes([instance({}, { [name]: 'many' })]), ['DOCTOR_VALUE'], name)
    assert.deepEqual(codes([instance({}, { PORT: '3000' })]), [])
    assert.deepEqual(codes([instance({}, { PORT: undefined })]), [])
    assert.deepEqual(codes([instance({}, { SESSION_SECRET_FILE: '/no/such/file' })]), [])
  })

  it('reports a place once, sorted by file and line', () => {
    const late = front({ file: 'b', readiness: { value: '/x', file: 'b', line: 2 } })
    const early = front({ readiness: { value: '/x', file: 'b', line: 1 } })
    const first = front({ readiness: { value: '/x', file: 'a', line: 9 } })
    const places = evaluate([late, early, late, first], { longestMs: 1 }).findings.map(
      ({ file, line }) => `${file}:${line}`,
    )
    assert.deepEqual(places, ['a:9', 'b:1', 'b:2'])
  })

  it('of trust counts variables that no Secret contains', () => {
    const untrusting = instance({ unseen: 'secrets', env: variables({ PORT: '3000' }) })
    assert.deepEqual(codes([untrusting, front({})]), ['DOCTOR_TRUST_MISSING'])
    const file = instance({ source: 'environment', env: variables({ PORT: '3000' }) })
    assert.deepEqual(codes([file, front({})]), ['DOCTOR_TRUST_MISSING'])
    assert.deepEqual(codes([file, instance(), front({})]), [], 'the file supplies values for compose')
  })

  it('reports a certain finding rather than an assumed one of the same place', () => {
    const [certain, assumed] = [undefined, 'it is deployed'].map((doubt) =>
      violation('DOCTOR_SIGNALS', at(1), undefined, { assumed: doubt }),
    )
    for (const both of [
      [certain, assumed],
      [assumed, certain],
    ])
      assert.deepEqual(
        evaluate(both as never, { longestMs: 1 }).findings.map(({ confidence }) => confidence),
        ['certain'],
      )
  })

  it('of instances of a fleet is a warning where that is assumed', () => {
    const assumed = instance({ assumed: 'x belongs to a fleet', copies: at(2), command: at('npm start', 2) })
    const env = variables({ INSTANCE_ID: 'a', JWT_SECRET: 'short' })
    const { findings } = evaluate([{ ...assumed, env }, front({ readiness: at('/x', 3) })], { longestMs: 1 })
    assert.deepEqual(
      findings.map(({ code, confidence }) => `${confidence} ${code}`),
      [
        'certain DOCTOR_SIGNALS',
        'assumed DOCTOR_READINESS_PATH',
        'assumed DOCTOR_INSTANCE_ID',
        'certain DOCTOR_SECRET_WEAK',
      ],
    )
    const ofFleet = violation('DOCTOR_PROBE_ANSWERED_BY_FRONT', at(1), undefined, { ofFleet: true })
    const confidence = (...all: Instance[]) =>
      evaluate([ofFleet, ...all], { longestMs: 1 }).findings.find(({ code }) => code === ofFleet.code)?.confidence
    assert.deepEqual([confidence(), confidence(assumed), confidence(instance())], ['assumed', 'assumed', 'certain'])
    const file = { ...at('changeme'), file: 'x/.env.test' }
    const [weak] = evaluate([instance({ env: new Map([['JWT_SECRET', file]]) })], { longestMs: 1 }).findings
    assert.equal(weak?.assumed, '.env.test is deployed')
  })

  it('of the longest request is a warning unless the user knows it', () => {
    const short = instance({}, { DRAIN_DELAY: '5000', SHUTDOWN_TIMEOUT: '10000' })
    for (const [longestIsKnown, confidence] of [
      [false, 'assumed'],
      [true, 'certain'],
    ] as const) {
      const { findings } = evaluate([short], { longestMs: 10_000, longestIsKnown })
      assert.deepEqual(
        findings.map((one) => [one.code, one.confidence]),
        [['DOCTOR_SHUTDOWN', confidence]],
      )
    }
  })

  describe('proposes the nearest whole second that satisfies it', () => {
    const written = (ms: number): Fact<number> => ({
      ...at(ms),
      write: (to) => ({ from: `${ms}`, to: `${to}` }),
    })
    const edit = (...readings: readonly (Instance | Front)[]): string | undefined =>
      evaluate(readings, { longestMs: 1 }).findings[0]?.edit?.to

    it('below the limit', () => {
      assert.equal(edit(front({ idleMs: written(90_000) }), instance({ keepAliveMs: at(72_000) })), '71000')
      assert.equal(edit(front({ idleMs: written(90_000) }), instance({ keepAliveMs: at(72_999) })), '71000')
      assert.equal(edit(front({ noticeMs: written(9_000) }), instance({ preStopMs: at(1_000) })), '6000')
    })

    it('above the limit', () => {
      assert.equal(edit(front({ avoidMs: written(2_000) }), instance()), '6000')
      assert.equal(edit(instance({ graceMs: written(9_000) })), '32000')
      assert.equal(edit(instance({ graceMs: written(9_000), preStopMs: at(2_001) })), '35000')
    })

    it('and nothing where none does', () => {
      assert.equal(edit(front({ idleMs: written(90_000) }), instance({ keepAliveMs: at(1_500) })), undefined)
    })
  })
})
