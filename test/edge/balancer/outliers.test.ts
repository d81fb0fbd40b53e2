import assert from 'node:assert/strict'
import { describe, it, mock } from 'node:test'
import { type OutlierOptions, Outliers } from '../../../src/edge/balancer/outliers.ts'
import type { Target } from '../../../src/edge/balancer/target.ts'
import { clock } from '../../helpers/clock.ts'
import { balancerDefaults, stubs } from './stub.ts'

const defaults = balancerDefaults.outliers

function watch(
  count: number,
  options: Partial<OutlierOptions>,
  body: (targets: Target[], outliers: Outliers) => void,
): void {
  const targets = stubs(count)
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  const outliers = new Outliers(
    { ...defaults, ...options },
    () => targets,
    (target, ejected) => {
      target.state = ejected ? 'ejected' : 'up'
    },
  )
  try {
    body(targets, outliers)
  } finally {
    outliers.close()
    mock.timers.reset()
  }
}

const times = (count: number, fn: () => void): void => {
  for (let i = 0; i < count; i++) fn()
}

describe('an outlier', () => {
  it('is ejected after consecutive failures; a success resets the count', () => {
    watch(3, {}, ([a, b], outliers) => {
      times(20, () => outliers.observe(b as Target, false, 5))
      times(4, () => outliers.observe(a as Target, true, 5))
      outliers.observe(a as Target, false, 5)
      times(4, () => outliers.observe(a as Target, true, 5))
      assert.equal(a?.state, 'up')
      outliers.observe(a as Target, true, 5)
      assert.equal(a?.state, 'ejected')
    })
  })

  it('is blamed for a failure if its previous response failed too and the others fail less', () => {
    watch(3, {}, ([a, b, c], outliers) => {
      const fails = (target?: Target): boolean => outliers.observe(target as Target, true, 5)
      times(20, () => outliers.observe(b as Target, false, 5))
      assert.deepEqual([fails(a), fails(a), fails(a)], [false, true, true])
      assert.equal(outliers.observe(a as Target, false, 5), false)
      assert.equal(fails(a), false)
      times(20, () => [b, c].map(fails))
      assert.equal(fails(a), false)
    })
  })

  it('is blamed for a failure on trial', () => {
    watch(2, { consecutive: 1 }, ([a, b], outliers) => {
      outliers.observe(b as Target, false, 5)
      outliers.observe(a as Target, true, 5)
      mock.timers.tick(10_000)
      assert.equal(outliers.observe(a as Target, true, 5), true)
      assert.equal(a?.state, 'ejected')
    })
  })

  it('is ejected for its share of failures within an interval', () => {
    watch(3, { consecutive: 0 }, ([a, b, c], outliers) => {
      times(10, () => {
        outliers.observe(a as Target, true, 5)
        outliers.observe(a as Target, false, 5)
        outliers.observe(b as Target, false, 5)
        outliers.observe(b as Target, false, 5)
      })
      mock.timers.tick(1000)
      assert.deepEqual([a?.state, b?.state, c?.state], ['ejected', 'up', 'up'])
    })
  })

  it('is ejected when much slower than the median, but only above latencyFloorMs', () => {
    for (const [latency, state] of [
      [90, 'up'],
      [99, 'up'],
      [200, 'ejected'],
    ] as const) {
      watch(4, {}, (targets, outliers) => {
        for (const [i, target] of targets.entries()) {
          times(20, () => outliers.observe(target, false, i === 2 ? latency : 10))
        }
        mock.timers.tick(1000)
        assert.deepEqual(
          targets.map((target) => target.state),
          ['up', 'up', state, 'up'],
        )
      })
    }
  })

  it('is not detected when all targets fail alike', () => {
    watch(4, {}, (targets, outliers) => {
      times(50, () => {
        for (const target of targets) outliers.observe(target, true, 5)
      })
      mock.timers.tick(1000)
      assert.ok(targets.every((target) => target.state === 'up'))
    })
  })

  it('is not detected when all fail alike at the start of an interval', () => {
    watch(4, {}, (targets, outliers) => {
      times(50, () => {
        for (const target of targets) outliers.observe(target, true, 5)
        mock.timers.tick(1000)
      })
      assert.ok(targets.every((target) => target.state === 'up'))
    })
  })

  it('is not ejected when too many targets are ejected already', () => {
    watch(5, { consecutive: 1, maxEjectedShare: 0.4 }, (targets, outliers) => {
      times(100, () => outliers.observe(targets[4] as Target, false, 5))
      for (const target of targets.slice(0, 4)) outliers.observe(target, true, 5)
      assert.equal(targets.filter(({ state }) => state === 'ejected').length, 2)
    })
  })

  it('is never the only target', () => {
    watch(1, {}, ([only], outliers) => {
      times(50, () => outliers.observe(only as Target, true, 5))
      assert.equal(only?.state, 'up')
    })
  })

  it('returns on trial with one request at a time, and stays after three successes', () => {
    watch(2, { consecutive: 1 }, ([a, b], outliers) => {
      outliers.observe(b as Target, false, 5)
      outliers.observe(a as Target, true, 5)
      mock.timers.tick(9_999)
      assert.equal(a?.state, 'ejected')
      mock.timers.tick(1)
      assert.deepEqual([a?.state, a?.onTrial, a?.full], ['up', true, false])
      if (a) a.pending = 1
      assert.equal(a?.full, true)
      times(3, () => outliers.observe(a as Target, false, 5))
      assert.deepEqual([a?.onTrial, a?.full], [false, false])
    })
  })

  it('is ejected for twice as long after each failed trial, up to five minutes', () => {
    watch(2, { consecutive: 1 }, ([a, b], outliers) => {
      outliers.observe(b as Target, false, 5)
      for (const seconds of [10, 20, 40, 80, 160, 300, 300]) {
        outliers.observe(a as Target, true, 5)
        mock.timers.tick(seconds * 1000 - 1)
        assert.equal(a?.state, 'ejected', `${seconds}`)
        mock.timers.tick(1)
        assert.equal(a?.state, 'up', `${seconds}`)
      }
      times(3, () => outliers.observe(a as Target, false, 5))
      outliers.observe(b as Target, false, 5)
      outliers.observe(a as Target, true, 5)
      mock.timers.tick(10_000)
      assert.equal(a?.state, 'up')
    })
  })
})

describe('a target that was removed', () => {
  it('no longer counts among the others, whether or not it had responses', () => {
    watch(3, { consecutive: 0 }, ([a, b, c], outliers) => {
      times(20, () => outliers.observe(b as Target, true, 5))
      outliers.observe(a as Target, true, 5)
      assert.equal(outliers.observe(a as Target, true, 5), false, 'the others fail as often')
      for (const removed of [b, c]) outliers.forget(removed as Target)
      assert.equal(outliers.observe(a as Target, true, 5), true)
    })
  })

  it('does not come back at the end of its ejection', () => {
    watch(2, { consecutive: 1 }, ([a, b], outliers) => {
      outliers.observe(b as Target, false, 5)
      outliers.observe(a as Target, true, 5)
      outliers.forget(a as Target)
      mock.timers.tick(3_600_000)
      assert.equal(a?.state, 'ejected')
    })
  })
})

it('nothing is checked after the end', (t) => {
  const time = clock(t)
  const outliers = new Outliers(defaults, () => [], assert.fail)
  assert.equal(time.timers(), 1)
  outliers.close()
  assert.equal(time.timers(), 0)
})
