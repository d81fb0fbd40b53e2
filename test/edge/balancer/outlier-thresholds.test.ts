import assert from 'node:assert/strict'
import { afterEach, describe, it, mock } from 'node:test'
import { type OutlierOptions, Outliers } from '../../../src/edge/balancer/outliers.ts'
import type { Target } from '../../../src/edge/balancer/target.ts'
import { balancerDefaults, stubs } from './stub.ts'

let stop = (): void => {}
afterEach(() => stop())

interface Watched {
  readonly targets: Target[]
  readonly outliers: Outliers
  /** Responses of target `i`. */
  succeed(i: number, count?: number, latencyMs?: number): void
  /** Failed responses of target `i`. @returns whether the last one is blamed on the target */
  fail(i: number, count?: number): boolean
  states(): string
}

function watch(count: number, options: Partial<OutlierOptions> = {}): Watched {
  const targets = stubs(count)
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  const outliers = new Outliers(
    { ...balancerDefaults.outliers, ...options },
    () => targets,
    (target, ejected) => {
      target.state = ejected ? 'ejected' : 'up'
    },
  )
  stop = () => {
    outliers.close()
    mock.timers.reset()
    stop = () => {}
  }
  const observe = (i: number, failed: boolean, times: number, latencyMs: number): boolean => {
    let blamed = false
    for (let n = 0; n < times; n++) blamed = outliers.observe(targets[i] as Target, failed, latencyMs)
    return blamed
  }
  return {
    targets,
    outliers,
    succeed: (i, times = 1, latencyMs = 5) => void observe(i, false, times, latencyMs),
    fail: (i, times = 1) => observe(i, true, times, 5),
    states: () => targets.map(({ state }) => (state === 'ejected' ? '-' : 'u')).join(''),
  }
}

const byShare = { consecutive: 0 }

describe('the thresholds of outliers', () => {
  it('have these defaults', () => {
    assert.deepEqual(
      { ...balancerDefaults.outliers },
      {
        consecutive: 5,
        errorShare: 0.5,
        latencyFactor: 5,
        latencyFloorMs: 100,
        minRequests: 20,
        intervalMs: 1000,
        ejectMs: 10_000,
        maxEjectedShare: 0.5,
      },
    )
  })

  it('eject nobody for consecutive failures or a share of 0', () => {
    const all = watch(3, { consecutive: 0, errorShare: 0 })
    all.succeed(1, 100)
    all.fail(0, 100)
    mock.timers.tick(1000)
    assert.equal(all.states(), 'uuu')
  })

  for (const [failures, successes, states] of [
    [10, 10, '-uu'],
    [10, 11, 'uuu'],
    [20, 0, '-uu'],
    [19, 0, 'uuu'],
  ] as const) {
    it(`of errorShare and minRequests ${states === 'uuu' ? 'keep' : 'eject'} a target with ${failures} failures of ${failures + successes}`, () => {
      const all = watch(3, byShare)
      all.succeed(1, 20)
      all.succeed(0, successes)
      all.fail(0, failures)
      assert.equal(all.states(), 'uuu')
      mock.timers.tick(999)
      assert.equal(all.states(), 'uuu')
      mock.timers.tick(1)
      assert.equal(all.states(), states)
    })
  }

  it('count each interval on its own', () => {
    const all = watch(3, byShare)
    for (let i = 0; i < 4; i++) {
      all.succeed(1, 19, 1000)
      all.fail(0, 19)
      mock.timers.tick(1000)
    }
    assert.equal(all.states(), 'uuu')
  })

  for (const [latency, others, options, states] of [
    [100, 20, {}, 'uuu'],
    [101, 20, {}, '-uu'],
    [150, 30, {}, 'uuu'],
    [151, 30, {}, '-uu'],
    [100, 1, {}, 'uuu'],
    [101, 1, {}, '-uu'],
    [9999, 1, { latencyFactor: 0 }, 'uuu'],
    [3, 1, { latencyFactor: 2, latencyFloorMs: 0 }, '-uu'],
    [2, 1, { latencyFactor: 2, latencyFloorMs: 0 }, 'uuu'],
  ] as const) {
    it(`${states === 'uuu' ? 'keep' : 'eject'} a target of ${latency} ms among ${others} ms with ${JSON.stringify(options)}`, () => {
      const all = watch(3, options)
      for (const i of [1, 2]) all.succeed(i, 20, others)
      all.succeed(0, 20, latency)
      mock.timers.tick(1000)
      assert.equal(all.states(), states)
    })
  }

  it('compare latency only among three targets with enough requests', () => {
    const two = watch(2)
    two.succeed(0, 20, 9999)
    two.succeed(1, 20, 1)
    mock.timers.tick(1000)
    assert.equal(two.states(), 'uu')
    stop()
    const three = watch(3)
    for (const i of [0, 1]) three.succeed(i, 20, i === 0 ? 9999 : 1)
    three.succeed(2, 19, 1)
    mock.timers.tick(1000)
    assert.equal(three.states(), 'uuu')
  })

  it('compare latency with the median of the targets that are up', () => {
    const all = watch(5)
    for (const [i, latency] of [160, 1, 2, 30, 40].entries()) all.succeed(i, 20, latency)
    ;(all.targets[1] as Target).state = 'down'
    ;(all.targets[2] as Target).state = 'draining'
    mock.timers.tick(1000)
    assert.equal(all.states(), 'uuuuu')
    stop()
    const low = watch(4)
    for (const [i, latency] of [140, 1, 30, 30].entries()) low.succeed(i, 20, latency)
    mock.timers.tick(1000)
    assert.equal(low.states(), 'uuuu')
  })

  it('forget the latency of the interval before', () => {
    const all = watch(3)
    all.succeed(0, 10, 9999)
    mock.timers.tick(1000)
    for (const i of [0, 1, 2]) all.succeed(i, 20)
    mock.timers.tick(1000)
    assert.equal(all.states(), 'uuu')
  })

  for (const [share, ejected] of [
    [0, 0],
    [0.39, 1],
    [0.4, 2],
    [0.59, 2],
    [0.6, 3],
  ] as const) {
    it(`of maxEjectedShare ${share} allow ${ejected} of five targets to be ejected`, () => {
      const all = watch(5, { maxEjectedShare: share })
      for (const target of all.targets) all.outliers.eject(target)
      assert.equal(all.targets.filter(({ state }) => state === 'ejected').length, ejected)
    })
  }

  it('require the others to fail at less than half the rate', () => {
    for (const [failures, states] of [
      [49, '-u'],
      [50, 'uu'],
    ] as const) {
      const all = watch(2)
      for (let n = 0; n < 50; n++) {
        all.succeed(1)
        if (n < failures) all.fail(1)
        else all.succeed(1)
      }
      all.fail(0, 5)
      assert.equal(all.states(), states, String(failures))
      stop()
    }
  })

  it('compare with the latest responses of the others until they have one in this interval', () => {
    for (const [failing, blamed] of [
      [1, true],
      [2, false],
    ] as const) {
      const all = watch(5)
      for (const i of [1, 2, 3, 4])
        if (i <= failing) all.fail(i)
        else all.succeed(i)
      mock.timers.tick(1000)
      all.fail(0)
      assert.equal(all.fail(0), blamed, String(failing))
      stop()
    }
  })

  it('compare only with targets that are up', () => {
    const all = watch(3, { consecutive: 0 })
    all.fail(1, 10)
    all.succeed(2, 10)
    all.fail(0, 9)
    assert.equal(all.fail(0), false)
    ;(all.targets[1] as Target).state = 'down'
    assert.equal(all.fail(0), true)
  })
})

describe('an ejection', () => {
  it('concerns only a target that is up', () => {
    for (const state of ['unproven', 'draining', 'down'] as const) {
      const all = watch(4)
      ;(all.targets[0] as Target).state = state
      all.outliers.eject(all.targets[0] as Target)
      assert.equal(all.targets[0]?.state, state)
      stop()
    }
  })

  it('ends only if the target is still ejected', () => {
    const all = watch(4)
    const [target] = all.targets as [Target]
    all.outliers.eject(target)
    target.state = 'draining'
    mock.timers.tick(10_000)
    assert.deepEqual([target.state, target.onTrial], ['draining', false])
  })

  it('does not end for a target that was removed, nor after the end of the balancer', () => {
    for (const end of ['forget', 'close'] as const) {
      const all = watch(4)
      const [target] = all.targets as [Target]
      all.outliers.eject(target)
      all.outliers[end](target)
      mock.timers.tick(1_000_000)
      assert.deepEqual([target.state, target.onTrial], ['ejected', false], end)
      stop()
    }
  })

  it('ends with a trial of three successes; a single failure before ejects again', () => {
    const all = watch(4)
    const [target] = all.targets as [Target]
    all.outliers.eject(target)
    mock.timers.tick(10_000)
    all.succeed(0, 2)
    assert.equal(target.onTrial, true)
    assert.equal(all.fail(0), true)
    assert.deepEqual([target.state, target.onTrial], ['ejected', false])
    mock.timers.tick(20_000)
    all.succeed(0, 3)
    assert.deepEqual([target.state, target.onTrial], ['up', false])
    assert.equal(all.fail(0), false)
    assert.equal(target.state, 'up')
  })

  it('forgets the failures before it', () => {
    const all = watch(4)
    all.succeed(1, 20)
    all.fail(0, 5)
    assert.equal(all.states(), '-uuu')
    mock.timers.tick(10_000)
    all.succeed(0, 3)
    all.succeed(1, 20)
    all.fail(0, 4)
    assert.equal(all.states(), 'uuuu')
    all.fail(0)
    assert.equal(all.states(), '-uuu')
  })

  it('makes a target on trial no failing one for the others', () => {
    const all = watch(2)
    all.succeed(1)
    all.fail(0, 5)
    assert.equal(all.states(), '-u')
    mock.timers.tick(10_000)
    all.fail(1)
    assert.equal(all.fail(1), true)
  })
})
