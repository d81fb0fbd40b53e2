import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { budgetsOf, known, related, valuesOf, withApp } from '../../../src/cli/doctor/budget.ts'
import type { FrontSource, InstanceSource } from '../../../src/cli/doctor/facts.ts'
import { at, front, type Instance, instance } from './readings.ts'

describe('a front', () => {
  it('belongs to the instances of its tool, or to all if there are none, and never to an image', () => {
    const all = (['compose', 'pm2', 'systemd', 'environment', 'app', 'kubernetes', 'ecs', 'image'] as const).map(
      (source) => instance({ source }),
    )
    const behind = (source: FrontSource, instances: readonly Instance[]): InstanceSource[] =>
      related(front({ source }), instances).map((one) => one.source)
    const local = ['compose', 'pm2', 'systemd', 'environment', 'app']
    assert.deepEqual(behind('nginx', all), local)
    assert.deepEqual(behind('haproxy', all), local)
    assert.deepEqual(behind('alb', all), ['ecs'])
    assert.deepEqual(behind('cloudflare', all), ['ecs'])
    assert.deepEqual(behind('ingress', all), ['kubernetes'])
    assert.deepEqual(behind('alb', [instance({ source: 'image' }), instance({ source: 'pm2' })]), ['pm2'])
  })
})

describe('what an app reports', () => {
  const app = instance({ source: 'app', keepAliveMs: at(4_000) }, { DRAIN_DELAY: '7000', SHUTDOWN_TIMEOUT: '9000' })
  const values = (one: unknown): (string | undefined)[] => {
    const { env } = one as Instance
    return ['DRAIN_DELAY', 'SHUTDOWN_TIMEOUT', 'TRUST_PROXY'].map((name) => env.get(name)?.value)
  }

  it('counts for instances whose file sets nothing else', () => {
    const [, service] = withApp([app, instance({}, { DRAIN_DELAY: '1000' })])
    assert.deepEqual(values(service), ['1000', '9000', '10.0.0.1'])
    assert.equal((service as Instance).keepAliveMs?.value, 4_000)
  })

  it('counts for no other instance if it is unknown, or if there are several apps', () => {
    const unknown = instance({ source: 'app' }, { DRAIN_DELAY: undefined, SHUTDOWN_TIMEOUT: undefined })
    const [, service] = withApp([unknown, instance()])
    assert.equal((service as Instance).env.has('DRAIN_DELAY'), false)
    assert.deepEqual(values(withApp([app, app, instance()])[2]), [undefined, undefined, '10.0.0.1'])
  })
})

describe('a term', () => {
  it('is the value of the file, its default where that is empty, and unknown if it is no number', () => {
    const drain = (value: string | undefined) =>
      valuesOf(instance({}, { DRAIN_DELAY: value }), undefined, { longestMs: 1 }).drain
    assert.deepEqual(drain('4000'), { ms: 4_000, at: at('4000', 11) })
    assert.equal((drain('') as { ms: number }).ms, 5_000)
    assert.deepEqual([drain(undefined), drain('5s')], ['unknown', 'unknown'])
  })

  it('of the longest request is assumed unless the user set it', () => {
    const assumed = (longestIsKnown?: boolean) =>
      known(valuesOf(undefined, undefined, { longestMs: 10_000, longestIsKnown }), 'longest')?.assumed
    assert.deepEqual([assumed(), assumed(true)], [undefined, undefined])
    assert.match(assumed(false) ?? '', /10 s/)
  })
})

describe('a drain budget', () => {
  const service = instance({ graceMs: at(40_000) }, { DRAIN_DELAY: '5000', SHUTDOWN_TIMEOUT: '30000' })
  const budgets = (...readings: Parameters<typeof budgetsOf>[0]) => budgetsOf(readings, { longestMs: 1 })

  it('has the values of the slowest front', () => {
    const fronts = [2_000, 4_000, 1_000].map((ms) => front({ noticeMs: at(ms) }))
    assert.deepEqual(
      budgets(service, ...fronts, front({ source: 'alb', noticeMs: at(9_000) }), instance({ source: 'ecs' }))[0],
      {
        ...{ name: 'app', notice: 4_000, avoid: undefined, preStop: 0, drain: 5_000, shutdown: 30_000, grace: 40_000 },
        assumed: [],
      },
    )
  })

  it('names what is assumed, and needs a front or a grace period', () => {
    const [budget] = budgets(instance({ graceMs: at(40_000), preStopMs: at(1_000) }))
    assert.deepEqual([budget?.preStop, budget?.assumed], [1_000, ['drain', 'shutdown']])
    assert.deepEqual(budgets(instance()), [])
    assert.equal(budgets(instance(), front({})).length, 1)
    assert.deepEqual(budgets(instance({ graceMs: at(40_000) }, { DRAIN_DELAY: undefined })), [])
  })
})
