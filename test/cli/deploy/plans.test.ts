import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { blueGreen, canary, rolling, type Survey } from '../../../src/cli/deploy/plans.ts'
import { canaryShares, type Share, type Shares } from '../../../src/cli/deploy/rotation.ts'
import { full, release, rotation, survey } from './fleet-of-text.ts'
import { short } from './short.ts'

const [a, b, c] = ['127.0.0.1:4001', '127.0.0.1:4002', '127.0.0.1:4003'] as const

describe('rolling', () => {
  test('returns each instance with the same change that takes out the next', () => {
    const plan = rolling(release, [a, b], survey({ [a]: '1', [b]: '1' }), rotation(full(a, b)))
    assert.deepEqual(short(plan), [
      'front 1=none 2=full',
      '  undo front 1=full 2=full',
      'start 2 4001',
      'ready 4001 2',
      '  undo start 1 4001',
      '  undo ready 4001 1',
      'front 1=full 2=none',
      '  undo front 1=none 2=full',
      'start 2 4002',
      'ready 4002 2',
      '  undo start 1 4002',
      '  undo ready 4002 1',
      'front 1=full 2=full',
      '  undo front 1=full 2=none',
    ])
  })

  test('continues after an interruption: keeps replaced instances and starts missing ones', () => {
    const found = survey({ [a]: '2', [b]: undefined, [c]: '1' })
    const now: Shares = new Map<string, Share>([...full(a), [b, 'none'], ...full(c)])
    const plan = short(rolling(release, [a, b, c], found, rotation(now)))
    assert.ok(!plan.includes('start 2 4001'))
    assert.equal(plan[0], 'start 2 4002')
    assert.ok(plan.includes('  undo start 1 4002'))
  })

  test('has no steps when every instance is replaced', () => {
    assert.deepEqual(rolling(release, [a, b], survey({ [a]: '2', [b]: '2' }), rotation(full(a, b))), [])
    const left = rolling(
      release,
      [a, b],
      survey({ [a]: '2', [b]: '2' }),
      rotation(new Map<string, Share>([...full(a), [b, 'none']])),
    )
    assert.deepEqual(short(left), ['front 1=full 2=full', '  undo front 1=full 2=none'])
  })
})

describe('blue-green', () => {
  const watched = { ...release, watchMs: 1000 }
  const sides = { blue: [a], green: [b] }

  test('starts the idle side, switches to it, watches it, and stops the old side last', () => {
    const plan = blueGreen(watched, sides, survey({ [a]: '1', [b]: undefined }, 'blue'), rotation(full(a)))
    assert.deepEqual(short(plan), [
      'start 2 4002',
      'ready 4002 2, green',
      '  undo stop 4002',
      'front 2=full',
      '  undo front 1=full',
      'watch for 1 s that 4002 stay ready',
      'stop 4001',
    ])
  })

  test('continues with the same side after an interruption', () => {
    const found: Survey = new Map([...survey({ [a]: '1' }, 'blue'), ...survey({ [b]: '2' }, 'green')])
    const plan = blueGreen(watched, sides, found, rotation(full(a)))
    assert.equal(short(plan)[0], 'front 2=full')
  })

  test('only stops the old side after a late interruption, and then has no steps', () => {
    const found: Survey = new Map([...survey({ [a]: '1' }, 'blue'), ...survey({ [b]: '2' }, 'green')])
    assert.deepEqual(short(blueGreen(watched, sides, found, rotation(full(b)))), ['stop 4001'])
    const ended: Survey = new Map([...survey({ [a]: undefined }), ...survey({ [b]: '2' }, 'green')])
    assert.deepEqual(blueGreen(watched, sides, ended, rotation(full(b))), [])
  })

  test('never replaces the serving side in place', () => {
    const found = survey({ [a]: '1', [b]: undefined }, 'blue')
    assert.throws(() => blueGreen({ ...watched, to: 'blue' }, sides, found, rotation(full(a))), {
      code: 'FLEET_ERR_USAGE',
    })
    assert.throws(() => blueGreen(watched, sides, found, rotation(full(a, b))), { code: 'FLEET_ERR_USAGE' })
    const half: Shares = new Map<string, Share>([...full(a), [c, 'none']])
    assert.throws(
      () =>
        blueGreen(
          { ...watched, to: 'blue' },
          { blue: [a, c], green: [b] },
          survey({ [a]: '1', [c]: '1' }),
          rotation(half),
        ),
      { code: 'FLEET_ERR_USAGE', message: /blue serves requests and cannot be replaced in place/ },
      'one of its instances serves',
    )
  })

  test('watches the side that stays when only the other one leaves', () => {
    const found: Survey = new Map([...survey({ [a]: '1' }, 'blue'), ...survey({ [b]: '2' }, 'green')])
    assert.deepEqual(short(blueGreen({ ...watched, to: 'green' }, sides, found, rotation(full(a, b)))), [
      'front 2=full',
      '  undo front 1=full 2=full',
      'watch for 1 s that 4002 stay ready',
      'stop 4001',
    ])
  })
})

describe('a program', () => {
  const programs = { start: ['start', '--at={host}:{port}', '{version}{version}', '{color}', '{other}'] }
  test('receives the address, version and color, in its arguments and its environment', () => {
    const at = '[::1]:4001'
    const given = { ...release, color: 'green', programs, timeoutMs: 7 }
    const plan = rolling(given, [at, b], survey({ [at]: '1', [b]: '2' }, 'green'), rotation(full(at, b)))
    const [start, ready] = plan[1]?.steps ?? []
    assert.deepEqual(start, {
      do: 'run',
      argv: ['start', '--at=[::1]:4001', '22', 'green', '{other}'],
      env: { HOST: '[::1]', PORT: '4001', FLEET_VERSION: '2', FLEET_COLOR: 'green' },
      timeoutMs: 7,
    })
    assert.deepEqual(ready, { do: 'ready', url: 'http://[::1]:4001', version: '2', color: 'green', timeoutMs: 7 })
    const { color: _, ...colorless } = given
    const [bare] = rolling(colorless, [a, b], survey({ [a]: '1', [b]: '1' }), rotation(full(a, b)))[1]?.steps ?? []
    assert.ok(bare?.do === 'run')
    assert.deepEqual([bare.argv[3], bare.env], ['', { HOST: '127.0.0.1', PORT: '4001', FLEET_VERSION: '2' }])
  })

  test('replaces an instance of the version that has another color or is not ready', () => {
    const found = survey({ [a]: '2', [b]: '2' }, 'blue')
    const green = { ...release, color: 'green' }
    assert.equal(rolling(green, [a, b], found, rotation(full(a, b))).length, 5)
    const unready: Survey = new Map([...found, [a, { ready: false, version: '2', summary: '503' }]])
    assert.deepEqual(short(rolling(release, [a, b], unready, rotation(full(a, b)))).slice(2, 4), [
      'start 2 4001',
      'ready 4001 2',
    ])
  })

  test('restores the color of the previous instance, and nothing if no other version is known', () => {
    const plan = rolling(
      { ...release, color: 'green' },
      [a, b],
      survey({ [a]: '1', [b]: '1' }, 'blue'),
      rotation(full(a, b)),
    )
    const [start] = plan[1]?.undo ?? []
    assert.equal(start?.do === 'run' && start.env?.FLEET_COLOR, 'blue')
    const first = rolling(release, [a, b], survey({ [a]: undefined, [b]: '2' }), rotation(full(a, b)))
    assert.deepEqual(first[1]?.undo, [])
  })

  test('restores the version that each instance had, and that of the others where it is not known', () => {
    const found = survey({ [a]: '1', [b]: '0', [c]: undefined })
    const plan = short(rolling(release, [a, b, c], found, rotation(full(a, b, c))))
    assert.deepEqual(
      plan.filter((step) => step.startsWith('  undo start')),
      ['  undo start 1 4001', '  undo start 0 4002', '  undo start 1 4003'],
    )
  })
})

test('blue-green completes a switch that was interrupted after one of two instances', () => {
  const found: Survey = new Map([...survey({ [a]: '2', [b]: '2' }, 'blue'), ...survey({ [c]: undefined })])
  const half: Shares = new Map<string, Share>([...full(a), [b, 'none']])
  const sides = { blue: [a, b], green: [c] }
  const plan = blueGreen({ ...release, watchMs: 1000, to: 'blue' }, sides, found, rotation(half))
  assert.deepEqual(short(plan), [
    'front 1=full 2=full',
    '  undo front 1=full 2=none',
    'watch for 1 s that 4001, 4002 stay ready',
  ])
})

describe('blue-green: the side', () => {
  const watched = { ...release, watchMs: 2000 }
  const sides = { blue: [a], green: [b] }
  const found = (blue?: string, green?: string): Survey =>
    new Map([...survey({ [a]: blue }, 'blue'), ...survey({ [b]: green }, 'green')])

  test('is the one without requests, or the given one', () => {
    assert.equal(short(blueGreen(watched, sides, found('1', '1'), rotation(full(b))))[0], 'start 2 4001')
    assert.equal(
      short(blueGreen({ ...watched, to: 'blue' }, sides, found('1', '1'), rotation(full(b))))[0],
      'start 2 4001',
    )
    const unknown = (now: Shares, message: RegExp): void =>
      assert.throws(() => blueGreen(watched, sides, found('1', '1'), rotation(now)), {
        code: 'FLEET_ERR_USAGE',
        message,
      })
    unknown(full(a, b), /blue and green is in rotation; choose with --to/)
    unknown(new Map(), /neither side is in rotation/)
    unknown(new Map([[a, 'none']]), /neither side is in rotation/)
  })

  test('is the one of which an instance has the version, or on which no instance serves', () => {
    const begun: Survey = new Map([...survey({ [a]: '1' }, 'blue'), ...survey({ [b]: '2', [c]: '1' }, 'green')])
    const two = { blue: [a], green: [b, c] }
    assert.equal(short(blueGreen(watched, two, begun, rotation(full(a, b))))[0], 'start 2 4003')
    const half: Shares = new Map<string, Share>([...full(a), [c, 'none']])
    const idle: Survey = new Map([...survey({ [a]: '1', [c]: '1' }, 'blue'), ...survey({ [b]: undefined })])
    assert.equal(short(blueGreen(watched, { blue: [a, c], green: [b] }, idle, rotation(half)))[0], 'start 2 4002')
  })

  test('is watched for the time after each change, and the other side stopped if there is a program for it', () => {
    const { stop: _, ...onlyStart } = release.programs
    const plan = blueGreen({ ...watched, programs: onlyStart }, sides, found('1'), rotation(full(a)))
    assert.deepEqual(
      plan.map(({ title }) => title),
      ['start version 2 at 127.0.0.1:4002', 'switch to green', 'watch green'],
    )
    assert.deepEqual(plan.at(-1)?.steps, [{ do: 'steady', urls: [`http://${b}`], version: '2', forMs: 2000 }])
    assert.deepEqual(plan[0]?.undo, [])
    // Something that listens is stopped, ready or not.
    const hung: Survey = new Map([...found('1', '2'), [a, { ready: false, summary: '503' }]])
    assert.deepEqual(short(blueGreen(watched, sides, hung, rotation(full(b)))), ['stop 4001'])
  })
})

describe('canary', () => {
  const limits = { errorMargin: 0.01, p95Factor: 1.5, minRequests: 50 }
  const requested = { ...release, percent: 10, windowMs: 1000, limits, hold: false }
  const where = { targets: [a, b], canaries: [c] }

  test('gives the canary a share, compares it, then replaces the others one by one', () => {
    const plan = canary(requested, where, survey({ [a]: '1', [b]: '1', [c]: undefined }), rotation(full(a, b)))
    const steps = short(plan)
    assert.deepEqual(steps.slice(0, 6), [
      'start 2 4003',
      'ready 4003 2',
      '  undo stop 4003',
      'front 1=256 2=256 3=57',
      '  undo front 1=full 2=full',
      'compare 4003 with 4001, 4002 for 1 s',
    ])
    assert.equal(steps[6], 'front 1=none 2=256 3=57')
    assert.deepEqual(steps.slice(-3), ['front 1=full 2=full', '  undo front 1=256 2=256 3=57', 'stop 4003'])
  })

  test('replaces no instance with --hold, and has no steps when all are replaced', () => {
    const found = survey({ [a]: '1', [b]: '1', [c]: '2' })
    const held = canary({ ...requested, hold: true }, where, found, rotation(full(a, b)))
    assert.equal(short(held).at(-1), 'compare 4003 with 4001, 4002 for 1 s')
    const done = survey({ [a]: '2', [b]: '2', [c]: undefined })
    assert.deepEqual(canary(requested, where, done, rotation(full(a, b))), [])
    const left = survey({ [a]: '2', [b]: '2', [c]: '2' })
    const shares: Shares = new Map<string, Share>([...full(a, b), [c, 20]])
    assert.deepEqual(short(canary(requested, where, left, rotation(shares))), [
      'front 1=full 2=full',
      '  undo front 1=full 2=full 3=20',
      'stop 4003',
    ])
  })

  test('compares and replaces the others after an interruption between two targets', () => {
    const found = survey({ [a]: '2', [b]: '1', [c]: '2' })
    const steps = short(canary(requested, where, found, rotation(full(a, b))))
    assert.ok(steps.includes('compare 4003 with 4001, 4002 for 1 s'))
    assert.deepEqual(
      steps.filter((step) => step.startsWith('start')),
      ['start 2 4002'],
    )
  })

  test('gives every instance a weight of at least 1 and at most 256', () => {
    const many = Array.from({ length: 300 }, (_, i) => `s${i}:1`)
    assert.deepEqual([...new Set(canaryShares(many, ['c:1'], 90).values())], [1, 256])
    assert.deepEqual([...canaryShares(['s:1'], ['c:1'], 50).values()], [256, 256])
  })

  test('computes weights that give the canary its percentage', () => {
    for (const [stable, canaries, percent] of [
      [2, 1, 10],
      [3, 2, 1],
      [1, 1, 90],
      [10, 1, 5],
    ] as const) {
      const names = (count: number, kind: string): string[] => Array.from({ length: count }, (_, i) => `${kind}${i}:1`)
      const shares = canaryShares(names(stable, 's'), names(canaries, 'c'), percent)
      const sum = (kind: string): number =>
        [...shares].reduce((all, [name, share]) => all + (name.startsWith(kind) ? Number(share) : 0), 0)
      assert.ok(Math.abs((100 * sum('c')) / (sum('c') + sum('s')) - percent) < 1, `${stable} ${canaries} ${percent}`)
      assert.ok([...shares.values()].every((share) => Number(share) >= 1 && Number(share) <= 256))
    }
  })
})
