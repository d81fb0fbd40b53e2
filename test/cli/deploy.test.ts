import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import deploy, { operatorsUrl } from '../../src/cli/commands/deploy.ts'
import { splitCommand as split } from '../../src/cli/deploy/command-line.ts'
import { type Sample, summarise, whyWorse } from '../../src/cli/deploy/compare.ts'
import { composeRolling } from '../../src/cli/deploy/fronts/compose.ts'
import { readShares, renderUpstreams } from '../../src/cli/deploy/fronts/nginx.ts'
import { pm2Rolling } from '../../src/cli/deploy/fronts/pm2.ts'
import type { InstanceStatus } from '../../src/cli/deploy/instance-status.ts'
import { blueGreen, canary, type Release, rolling, type Survey } from '../../src/cli/deploy/plans.ts'
import { canaryShares, type Rotation, type Share, type Shares } from '../../src/cli/deploy/rotation.ts'
import { type DeployPlan, describe as words } from '../../src/cli/deploy/step.ts'
import { runCommand } from './commands.ts'

const [a, b, c] = ['127.0.0.1:4001', '127.0.0.1:4002', '127.0.0.1:4003'] as const

/** A front that records its rotation as text. */
const rotation = (now: Shares): Rotation => {
  const say = (shares: Shares): string =>
    [...shares].map(([address, share]) => `${address.slice(-1)}=${share}`).join(' ')
  return {
    now,
    change: (from, to) =>
      say(from) === say(to) ? [] : [{ do: 'run', argv: ['front', ...say(to).split(' ')], timeoutMs: 1 }],
  }
}
const full = (...addresses: string[]): Shares => new Map(addresses.map((address) => [address, 'full']))
const survey = (versions: Record<string, string | undefined>, color?: string): Survey =>
  new Map(
    Object.entries(versions).map(([address, version]): [string, InstanceStatus] =>
      version === undefined
        ? [address, { ready: false, summary: 'ECONNREFUSED' }]
        : [address, { ready: true, version, color, summary: version }],
    ),
  )
const release: Release = {
  version: '2',
  programs: { start: ['start', '{version}', '{port}'], stop: ['stop', '{port}'] },
  timeoutMs: 1000,
}
/** A short form of a plan: the text of each step and of its undo steps. */
const short = (plan: DeployPlan): string[] =>
  plan.flatMap(({ steps, undo }) => [
    ...steps.map(words).map(brief),
    ...undo.map((step) => `  undo ${brief(words(step))}`),
  ])
const brief = (text: string): string =>
  text
    .replace(/^\$ (\w+=\S+ )*/, '')
    .replaceAll('http://127.0.0.1:', '')
    .replace(/, \d+ s at most$/, '')
    .replace(/wait until (\d+) is ready as version (\S+)/, 'ready $1 $2')

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
  })
})

test('--admin-port is a port, or an offset to the port of the instance', () => {
  assert.equal(operatorsUrl(undefined)('http://10.0.0.1:3000'), 'http://10.0.0.1:3000')
  assert.equal(operatorsUrl('3100')('http://10.0.0.1:3000'), 'http://10.0.0.1:3100')
  assert.equal(operatorsUrl('+1000')('http://[::1]:4001'), 'http://[::1]:5001')
  for (const wrong of ['x', '0', '70000', '+']) assert.throws(() => operatorsUrl(wrong), { code: 'FLEET_ERR_USAGE' })
  assert.throws(() => operatorsUrl('+60000')('http://127.0.0.1:9000'), { code: 'FLEET_ERR_USAGE' })
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

describe('the comparison', () => {
  const limits = { errorMargin: 0.01, p95Factor: 1.5, minRequests: 50 }
  const good = { requests: 1000, errors: 0, p95: 20 }

  test('reports errors at once and latency at the end', () => {
    assert.equal(whyWorse({ requests: 100, errors: 0, p95: 25 }, good, limits, true), undefined)
    assert.match(
      whyWorse({ requests: 100, errors: 10, p95: 20 }, good, limits, false) ?? '',
      /10 % of its responses are 5xx/,
    )
    assert.match(whyWorse({ requests: 100, errors: 0, p95: 40 }, good, limits, true) ?? '', /its p95 is 40 ms/)
    assert.equal(whyWorse({ requests: 100, errors: 0, p95: 40 }, good, limits, false), undefined)
  })

  test('tolerates errors of both sides, and noise', () => {
    assert.equal(whyWorse({ requests: 100, errors: 10, p95: 20 }, { ...good, errors: 100 }, limits, true), undefined)
    assert.equal(whyWorse({ requests: 100, errors: 0, p95: 9 }, { ...good, p95: 1 }, limits, true), undefined)
  })

  test('fails a canary with too few requests', () => {
    assert.equal(whyWorse({ requests: 3, errors: 3, p95: 1 }, good, limits, false), undefined)
    assert.match(whyWorse({ requests: 3, errors: 0, p95: 1 }, good, limits, true) ?? '', /a comparison needs 50/)
  })

  test('counts from the first sample and ignores earlier latency', () => {
    const side: Sample[][] = [
      [
        { requests: 1000, errors: 900, p95: 999 },
        { requests: 1100, errors: 901, p95: 10 },
      ],
      [
        { requests: 0, errors: 0, p95: 999 },
        { requests: 50, errors: 0, p95: 30 },
      ],
    ]
    assert.deepEqual(summarise(side), { requests: 150, errors: 1, p95: 30 })
  })
})

describe('the upstream file', () => {
  // As scripts/nginx-render leaves it.
  const text = `# The instances.
upstream fleet {
  zone fleet 256k;
  include upstreams/round-robin.conf;
  server ${a} max_fails=1 fail_timeout=10s; server ${b} max_fails=1 fail_timeout=10s weight=3; 
  include upstreams/keepalive.conf;
}
upstream last_resort {
  server ${a} max_fails=0; server ${b} max_fails=0; 
}
upstream other {
  server 192.0.2.1:80;
}
`
  const managed = new Set([a, b, c])
  const render = (shares: Shares, from = text): string => renderUpstreams(from, shares, managed)

  test('changes the members in every upstream and nothing else', () => {
    assert.equal(
      render(new Map<string, Share>([...full(a), [b, 'none'], ...full(c)])),
      `# The instances.
upstream fleet {
  zone fleet 256k;
  include upstreams/round-robin.conf;
  server ${a} max_fails=1 fail_timeout=10s;
  server ${b} weight=3 down max_fails=1 fail_timeout=10s;
  server ${c} max_fails=1 fail_timeout=10s;
  include upstreams/keepalive.conf;
}
upstream last_resort {
  server ${a} max_fails=0;
  server ${b} down max_fails=0;
  server ${c} max_fails=0;
}
upstream other {
  server 192.0.2.1:80;
}
`,
    )
  })

  test('reads and rewrites its own output', () => {
    const shares: Shares = new Map<string, Share>([
      [a, 'none'],
      [b, 200],
      [c, 20],
    ])
    const written = render(shares)
    assert.deepEqual(readShares(written, 'fleet'), shares)
    assert.equal(render(shares, written), written)
    // The weight of before a canary is found again, though the deploy in between was interrupted.
    assert.equal(render(full(a, b), written), render(full(a, b)))
    assert.match(render(full(a, b), written), new RegExp(`server ${b} weight=3 max_fails`))
  })

  test('keeps unmanaged servers', () => {
    const mixed = `upstream fleet {\n  server ${a};\n  server unix:last-resort.sock backup;\n}\n`
    assert.equal(
      renderUpstreams(mixed, full(b), managed),
      `upstream fleet {\n  server ${b};\n  server unix:last-resort.sock backup;\n}\n`,
    )
  })
})

describe('compose', () => {
  const options = { command: ['docker', 'compose'], service: 'app', version: '2', timeoutMs: 60_000 }
  const up = (count: number): string =>
    `docker compose up --detach --no-deps --no-recreate --wait --wait-timeout 60 --scale app=${count} app`

  test('starts new containers beside the old ones, then stops the old ones', () => {
    const old = [1, 2, 3].map((n) => ({ id: `old${n}`, version: '1' }))
    assert.deepEqual(short(composeRolling(options, old)), [
      up(6),
      'check that 3 new × app are healthy',
      `  undo ${up(3)}`,
      'docker stop old1 old2 old3',
      'docker rm old1 old2 old3',
    ])
  })

  test('counts new containers after an interruption, and has no steps when done', () => {
    const mixed = [
      { id: 'o', version: '1' },
      { id: 'n', version: '2' },
    ]
    assert.deepEqual(short(composeRolling({ ...options, scale: 3 }, mixed)), [
      up(4),
      'check that 3 new × app are healthy',
      `  undo ${up(1)}`,
      'docker stop o',
      'docker rm o',
    ])
    assert.deepEqual(composeRolling(options, [{ id: 'n', version: '2' }]), [])
  })

  test('starts the requested number the first time', () => {
    assert.deepEqual(short(composeRolling({ ...options, scale: 2 }, [])), [up(2), 'check that 2 new × app are healthy'])
  })
})

test('pm2: checks the build first, without an undo step', () => {
  const plan = pm2Rolling({
    command: ['pm2'],
    config: 'ecosystem.config.cjs',
    file: 'app.js',
    url: 'http://127.0.0.1:3000',
    version: '2',
    timeoutMs: 1000,
    restore: ['ln', '-sfn', 'releases/1', 'current'],
  })
  assert.match(short(plan)[0] ?? '', /start app\.js --check --ready-timeout 1000$/)
  assert.deepEqual(plan[0]?.undo, [])
  assert.deepEqual(short(plan).slice(1), [
    'pm2 reload ecosystem.config.cjs --update-env',
    'wait until http://127.0.0.1:3000/ready says so of version 2'
      .replace('http://127.0.0.1:', '')
      .replace('wait until 3000/ready says so of version', 'ready 3000'),
    '  undo ln -sfn releases/1 current',
    '  undo pm2 reload ecosystem.config.cjs --update-env',
  ])
})

describe('the command line', () => {
  test('splits words like a shell', () => {
    assert.deepEqual(split('start', `sh -c 'a "b" $c' "x \\"y\\"" \\  {port}`), [
      'sh',
      '-c',
      'a "b" $c',
      'x "y"',
      ' ',
      '{port}',
    ])
    assert.throws(() => split('start', `sh -c 'a`), { code: 'FLEET_ERR_USAGE' })
    assert.throws(() => split('start', '  '), { code: 'FLEET_ERR_USAGE' })
  })

  const common = ['--version', '2', '--start', 'x']
  for (const [why, args] of [
    ['no strategy', []],
    ['an unknown strategy', ['sideways', '--front', 'nginx']],
    ['no front', ['rolling', ...common]],
    ['an unknown front', ['rolling', '--front', 'apache', ...common]],
    ['blue-green on pm2', ['blue-green', '--front', 'pm2', ...common]],
    ['canary on pm2', ['canary', '--front', 'pm2', ...common]],
    ['blue-green on compose', ['blue-green', '--front', 'compose', ...common]],
    ['canary on compose', ['canary', '--front', 'compose', ...common]],
    ['no version', ['rolling', '--front', 'nginx', '--start', 'x', '--target', a, '--target', b]],
    ['one target', ['rolling', '--front', 'nginx', ...common, '--target', a]],
    ['a target twice', ['rolling', '--front', 'nginx', ...common, '--target', a, '--target', a]],
    ['a target without a port', ['rolling', '--front', 'nginx', ...common, '--target', 'here', '--target', a]],
    ['no upstream file', ['rolling', '--front', 'nginx', ...common, '--target', a, '--target', b]],
    [
      'a color beside blue-green',
      ['blue-green', '--front', 'nginx', ...common, '--color', 'x', '--blue', a, '--green', b],
    ],
    ['no canary', ['canary', '--front', 'nginx', ...common, '--target', a, '--target', b]],
    [
      'a percentage that is none',
      ['canary', '--front', 'nginx', ...common, '--target', a, '--target', b, '--canary', c, '--percent', '100'],
    ],
  ] as const) {
    test(`rejects ${why}`, async () => {
      const { code, stderr } = await runCommand(deploy, ...args)
      assert.equal(code, 2, stderr)
      assert.match(stderr, /FLEET_ERR_USAGE/)
    })
  }
})
