import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { composeRolling, containers } from '../../../src/cli/deploy/fronts/compose.ts'
import { readShares, renderUpstreams } from '../../../src/cli/deploy/fronts/nginx.ts'
import { pm2Rolling } from '../../../src/cli/deploy/fronts/pm2.ts'
import type { Share, Shares } from '../../../src/cli/deploy/rotation.ts'
import { short } from './short.ts'
import { standInForDocker } from './stand-ins.ts'

const [a, b, c] = ['127.0.0.1:4001', '127.0.0.1:4002', '127.0.0.1:4003'] as const

const full = (...addresses: string[]): Shares => new Map(addresses.map((address) => [address, 'full']))

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

  test('gives a new member the settings of the first one, without its weight and place', () => {
    const first = `upstream fleet {\n  server ${a} weight=3 backup max_fails=1;\n}\n`
    assert.equal(
      render(full(a, c), first),
      `upstream fleet {\n  server ${a} weight=3 backup max_fails=1;\n  server ${c} max_fails=1;\n}\n`,
    )
    assert.deepEqual(readShares(first, 'fleet'), full(a))
    const weighed: Shares = new Map<string, Share>([
      [a, 7],
      [c, 9],
    ])
    assert.equal(
      render(weighed, first),
      `upstream fleet {\n  server ${a} weight=7 backup max_fails=1; # configured: weight=3\n  server ${c} weight=9 max_fails=1; # configured:\n}\n`,
    )
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
    const [start] = composeRolling({ ...options, scale: 3 }, mixed)
    const besides = start?.steps.flatMap((step) => (step.do === 'healthy' ? [step.besides] : []))
    assert.deepEqual(besides, [['o']], 'the new one is checked, too')
    assert.deepEqual(composeRolling(options, [{ id: 'n', version: '2' }]), [])
  })

  test('reads the version and the state of each container', async (t) => {
    const given = standInForDocker(t, {
      a: { Status: 'running', Health: { Status: 'starting' } },
      b: { Status: 'running' },
      c: { Status: 'exited', Health: { Status: 'healthy' } },
    })
    assert.deepEqual(await containers(given), [
      { id: 'a', version: '2', state: 'starting' },
      { id: 'b', version: '2', state: 'running' },
      { id: 'c', version: '2', state: 'exited' },
    ])
    assert.deepEqual(await containers(standInForDocker(t, { d: { Status: 'running' } }, [])), [
      { id: 'd', version: undefined, state: 'running' },
    ])
    assert.deepEqual(await containers(standInForDocker(t, {})), [])
    await assert.rejects(containers({ ...given, command: ['/bin/sh', '-c', 'echo broken >&2; exit 1'] }), {
      code: 'FLEET_ERR_UNREACHABLE',
      message: /compose: broken$/,
    })
    await assert.rejects(containers({ ...given, command: ['/no/such/program'] }), /compose: .*ENOENT/)
  })

  test('passes the version and color to the new containers only, with time for a build', () => {
    const [start] = composeRolling({ ...options, color: 'green', timeoutMs: 1_500 }, [{ id: 'o', version: '1' }])
    const [up] = start?.steps ?? []
    const [undo] = start?.undo ?? []
    assert.ok(up?.do === 'run' && undo?.do === 'run')
    assert.deepEqual([up.env, up.timeoutMs, undo.env], [{ FLEET_VERSION: '2', FLEET_COLOR: 'green' }, 3_000, {}])
    assert.equal(up.argv[up.argv.indexOf('--wait-timeout') + 1], '2')
  })

  test('starts the requested number the first time', () => {
    assert.deepEqual(short(composeRolling({ ...options, scale: 2 }, [])), [up(2), 'check that 2 new × app are healthy'])
    const [first] = composeRolling(options, [])
    assert.deepEqual(first?.undo, [])
    const [one] = first?.steps ?? []
    assert.ok(one?.do === 'run')
    assert.ok(one.argv.includes('app=1'), 'one by default')
    assert.deepEqual(one.env, { FLEET_VERSION: '2' })
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
  const steps = plan.flatMap(({ steps, undo }) => [...steps, ...undo])
  assert.deepEqual(
    steps.map((step) => ('timeoutMs' in step ? step.timeoutMs : 0)),
    [11_000, 1_000, 1_000, 1_000, 1_000],
    'the check itself times out first',
  )
  const envs = steps.flatMap((step) => (step.do === 'run' ? [step.env] : []))
  assert.deepEqual(envs, [{ FLEET_VERSION: '2' }, { FLEET_VERSION: '2' }, undefined, {}])
  const blue = pm2Rolling({
    ...{ command: ['pm2'], config: 'c', file: 'app.js', url: 'http://a', version: '2', color: 'blue', timeoutMs: 1 },
  })
  const [check] = blue[0]?.steps ?? []
  assert.deepEqual(check?.do === 'run' && check.env, { FLEET_VERSION: '2', FLEET_COLOR: 'blue' })
  assert.deepEqual(blue[1]?.undo, [], 'nothing restores the previous build')
  assert.deepEqual(short(plan).slice(1), [
    'pm2 reload ecosystem.config.cjs --update-env',
    'wait until http://127.0.0.1:3000/ready says so of version 2'
      .replace('http://127.0.0.1:', '')
      .replace('wait until 3000/ready says so of version', 'ready 3000'),
    '  undo ln -sfn releases/1 current',
    '  undo pm2 reload ecosystem.config.cjs --update-env',
  ])
})
