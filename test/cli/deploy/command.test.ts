import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import deploy, { operatorsUrl } from '../../../src/cli/commands/deploy.ts'
import { splitCommand as split } from '../../../src/cli/deploy/command-line.ts'
import type { DeployPlan, Step } from '../../../src/cli/deploy/step.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { runCommand } from '../commands.ts'
import { serversState, standInForDocker, startInstance, startRuntimeApi } from './stand-ins.ts'

const [a, b, c] = ['127.0.0.1:4001', '127.0.0.1:4002', '127.0.0.1:4003'] as const

test('--admin-port is a port, or an offset to the port of the instance', () => {
  assert.equal(operatorsUrl(undefined)('http://10.0.0.1:3000'), 'http://10.0.0.1:3000')
  assert.equal(operatorsUrl('3100')('http://10.0.0.1:3000'), 'http://10.0.0.1:3100')
  assert.equal(operatorsUrl('+1000')('http://[::1]:4001'), 'http://[::1]:5001')
  for (const wrong of ['x', '0', '70000', '+']) assert.throws(() => operatorsUrl(wrong), { code: 'FLEET_ERR_USAGE' })
  assert.throws(() => operatorsUrl('+60000')('http://127.0.0.1:9000'), { code: 'FLEET_ERR_USAGE' })
})

const common = ['--version', '2', '--start', 'x']

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

  const nginx = ['--front', 'nginx', ...common]
  const [one, two] = [['--target', a] as const, ['--target', a, '--target', b] as const]
  for (const [why, args, says] of [
    ['no strategy', [], /strategy must be one of rolling, blue-green, canary;/],
    ['an unknown strategy', ['sideways', '--front', 'nginx'], /strategy must be one of .*, not sideways/],
    ['no front', ['rolling', ...common], /--front must be one of nginx, haproxy, pm2, compose;/],
    ['an unknown front', ['rolling', '--front', 'apache', ...common], /--front must be one of .*, not apache/],
    ...['pm2', 'compose'].flatMap((front) =>
      ['blue-green', 'canary'].map(
        (how) =>
          [
            `${how} on ${front}`,
            [how, '--front', front, ...common],
            new RegExp(`${how} needs a front that addresses single instances: nginx or haproxy, not ${front}`),
          ] as const,
      ),
    ),
    ['no version', ['rolling', '--front', 'nginx', '--start', 'x', ...two], /--version is missing/],
    ['one target', ['rolling', ...nginx, ...one], /one target cannot be replaced without downtime: use blue-green/],
    ['a target twice', ['rolling', ...nginx, ...one, ...one], /127\.0\.0\.1:4001 is listed twice/],
    ['a target without a port', ['rolling', ...nginx, '--target', 'here', ...one], /--target must be HOST:PORT/],
    ['no upstream file', ['rolling', ...nginx, ...two], /--upstreams is missing/],
    [
      'a color beside blue-green',
      ['blue-green', ...nginx, '--color', 'x', '--blue', a, '--green', b],
      /blue-green sets the color; remove --color/,
    ],
    ['no canary', ['canary', ...nginx, ...two], /--canary is missing/],
    ['a canary that is a target', ['canary', ...nginx, ...two, '--canary', b], /127\.0\.0\.1:4002 is listed twice/],
    [
      'one target beside a canary',
      ['canary', ...nginx, ...one, '--canary', c],
      /one target cannot be replaced without downtime: use several targets or --hold/,
    ],
    ['a percentage that is none', ['canary', ...nginx, ...two, '--canary', c, '--percent', '100'], /--percent must be/],
  ] as const) {
    test(`rejects ${why}`, async () => {
      const { code, stderr } = await runCommand(deploy, ...args)
      assert.equal(code, 2, stderr)
      assert.match(stderr, /FLEET_ERR_USAGE/)
      assert.match(stderr, says)
    })
  }
})

describe('the options', () => {
  async function deployment(): Promise<{ base: string[]; addresses: string[] }> {
    const instances = [await startInstance(), await startInstance(), await startInstance()]
    const addresses = instances.map(({ address }) => address)
    const file = join(temporaryFolder('deploy'), 'upstreams.conf')
    writeFileSync(file, `upstream fleet {\n${addresses.map((address) => `  server ${address};\n`).join('')}}\n`)
    return { base: ['--front', 'nginx', '--upstreams', file, ...common, '--dry-run', '--json'], addresses }
  }
  const planOf = async (...args: string[]): Promise<DeployPlan> => {
    const { code, stdout, stderr } = await runCommand(deploy, ...args)
    assert.equal(code, 0, stderr)
    return (JSON.parse(stdout) as { plan: DeployPlan }).plan
  }
  const stepOf = <K extends Step['do']>(plan: DeployPlan, kind: K): Extract<Step, { do: K }> =>
    plan.flatMap(({ steps }) => steps).find((step) => step.do === kind) as Extract<Step, { do: K }>

  test('of a canary are its share and its limits', async () => {
    const { base, addresses } = await deployment()
    const [one, two, three] = addresses as [string, string, string]
    const args = ['canary', ...base, '--target', one, '--target', two, '--canary', three]
    const byDefault = await planOf(...args)
    const usual = { windowMs: 30_000, limits: { errorMargin: 0.01, p95Factor: 1.5, minRequests: 50 } }
    const { windowMs, limits } = stepOf(byDefault, 'compare')
    assert.deepEqual({ windowMs, limits }, usual)
    assert.ok(byDefault.some(({ title }) => title.endsWith('10 % of the requests')))
    const own = [
      '--window',
      '7',
      '--error-margin',
      '2.5',
      '--p95-factor',
      '3',
      '--min-requests',
      '9',
      '--percent',
      '90',
    ]
    const plan = await planOf(...args, ...own, '--hold')
    const step = stepOf(plan, 'compare')
    assert.deepEqual([step.windowMs, step.limits], [7, { errorMargin: 0.025, p95Factor: 3, minRequests: 9 }])
    assert.equal(plan.at(-1)?.title, 'compare the canary', 'held')
    assert.ok(plan.some(({ title }) => title.endsWith('90 % of the requests')))
    const single = await planOf('canary', ...base, '--target', one, '--canary', three, '--hold')
    assert.equal(single.at(-1)?.title, 'compare the canary')
    for (const [name, value] of [
      ...[0, 91, 1.5].map((wrong) => ['percent', wrong]),
      ...[-1, 101, '', 'x'].map((wrong) => ['error-margin', wrong]),
      ...[0.9, 1_001].map((wrong) => ['p95-factor', wrong]),
      ...[0, 1_000_000_001].map((wrong) => ['min-requests', wrong]),
      ['window', 86_400_001],
    ]) {
      const { code, stderr } = await runCommand(deploy, ...args, `--${name}=${value}`)
      assert.equal(code, 2, stderr)
      assert.match(stderr, new RegExp(`--${name} must be`))
    }
  })

  test('of blue-green are the sides, the watch and its color', async () => {
    const { base, addresses } = await deployment()
    const [one, two, three] = addresses as [string, string, string]
    const args = ['blue-green', ...base, '--blue', one, '--green', two]
    const given = await planOf(...args, '--to', 'green')
    assert.ok(given.some(({ title }) => title === 'watch green'))
    const idle = await planOf(
      'blue-green',
      ...base,
      '--blue',
      one,
      '--green',
      '127.0.0.1:1',
      '--window',
      '5',
      '--timeout',
      '1009',
    )
    const { forMs, urls } = stepOf(idle, 'steady')
    const { timeoutMs, color } = stepOf(idle, 'ready')
    assert.deepEqual([forMs, urls, timeoutMs, color], [5, ['http://127.0.0.1:1'], 1009, 'green'])
    const twice = await runCommand(deploy, 'blue-green', ...base, '--blue', three, '--green', three)
    assert.match(twice.stderr, /is listed twice/)
  })

  test('reject what is no address, version or time', async () => {
    const { base, addresses } = await deployment()
    const targets = addresses.slice(0, 2).flatMap((address) => ['--target', address])
    for (const address of ['x', 'x:', 'x:0', 'x:65536', ':1', 'a b:1', '[x]:1']) {
      const { code, stderr } = await runCommand(deploy, 'rolling', ...base, ...targets, '--target', address)
      assert.deepEqual([code, stderr.includes('--target must be HOST:PORT')], [2, true], address)
    }
    for (const version of ['', 'a b', 'x'.repeat(129), 'a/b']) {
      const { code, stderr } = await runCommand(deploy, 'rolling', ...base, ...targets, `--version=${version}`)
      assert.deepEqual([code, /--version (?:is missing|must be)/.test(stderr)], [2, true], version)
    }
    // 60 stands for seconds elsewhere.
    for (const timeout of ['0', '60', '999', '3600001']) {
      const { code, stderr } = await runCommand(deploy, 'rolling', ...base, ...targets, '--timeout', timeout)
      assert.deepEqual([code, stderr.includes('--timeout must be')], [2, true], timeout)
    }
    const more = await runCommand(deploy, 'rolling', 'extra', ...base, ...targets)
    assert.match(more.stderr, /extra is unexpected/)
  })

  test('are rejected before a change if an instance has no /ready', async () => {
    const { address } = await startInstance()
    const lacking = await startInstance({ hasReadiness: false })
    const file = join(temporaryFolder('deploy'), 'upstreams.conf')
    const text = `upstream fleet { server ${address}; server ${lacking.address}; }\n`
    writeFileSync(file, text)
    const targets = ['--target', address, '--target', lacking.address]
    const nginx = ['--front', 'nginx', '--upstreams', file, '--nginx', 'false', '--version', '2', '--start', 'false']
    for (const args of [
      ['rolling', ...nginx, ...targets],
      ['rolling', ...nginx, ...targets, '--dry-run'],
      ['canary', ...nginx, '--target', address, '--target', '127.0.0.1:1', '--canary', lacking.address],
      ['blue-green', ...nginx, '--blue', address, '--green', lacking.address],
      ['rolling', '--front', 'pm2', 'app.js', '--version', '2', '--url', lacking.url],
    ]) {
      const { code, stderr } = await runCommand(deploy, ...args)
      assert.equal(code, 2, stderr)
      assert.match(
        stderr,
        new RegExp(`${lacking.url}/ready responds 404.*nothing was replaced.*FLEET_PUBLIC_PROBES=on`, 's'),
      )
    }
    assert.equal(readFileSync(file, 'utf8'), text)
  })

  test('of a front are its names, and the commands that start and stop an instance', async (t) => {
    const instances = [await startInstance(), await startInstance()]
    const [one = '', two = ''] = instances.map(({ address }) => address)
    const [port] = one.split(':').slice(1)
    const programs = ['--start', 'up {port}', '--stop', 'down {port}', '--version', '2', '--dry-run', '--json']
    const file = join(temporaryFolder('deploy'), 'upstreams.conf')
    writeFileSync(file, `upstream shop {\n  server ${one};\n  server ${two} down;\n}\n`)
    const nginx = ['--front', 'nginx', '--upstreams', file, '--upstream', 'shop', '--settle', '7']
    const plan = await planOf('blue-green', '--blue', one, '--green', two, ...programs, ...nginx)
    const commands = plan.flatMap(({ steps }) => steps.map((step) => (step.do === 'run' ? step.argv.join(' ') : '')))
    assert.ok(commands.includes(`up ${two.split(':')[1]}`) && commands.includes(`down ${port}`), commands.join())
    assert.equal(stepOf(plan, 'pause').ms, 7)
    const ports = [one, two].map((each, i) => ({ name: `app${i}`, port: Number(each.split(':')[1]) }))
    const api = await startRuntimeApi(() => serversState(...ports))
    const haproxy = await planOf(
      'rolling',
      '--target',
      one,
      '--target',
      two,
      ...programs,
      '--front',
      'haproxy',
      '--socket',
      api.socket,
      '--backend',
      'shop',
    )
    const step = stepOf(haproxy, 'runtime')
    assert.deepEqual([step.socket, step.command.includes(' shop/app')], [api.socket, true])
    assert.ok(
      api.commands.every((command) => command.endsWith(' shop')),
      api.commands.join(),
    )
    standInForDocker(t, { old: { Status: 'running' } }, ['FLEET_VERSION=1'])
    const compose = ['rolling', '--front', 'compose', '--compose', 'docker', '--service', 'web', '--scale', '3']
    const scaled = await planOf(...compose, '--version', '2', '--dry-run', '--json')
    const { argv } = stepOf(scaled, 'run')
    assert.match(argv.join(' '), /^docker up .* --scale web=4 web$/)
  })

  test('of pm2 need a file and a URL, and the undo restores the version that runs', async () => {
    const { url } = await startInstance({ version: '7' })
    const pm2 = ['rolling', '--front', 'pm2', '--version', '8', '--dry-run', '--json']
    for (const [args, message] of [
      [['--url', url], /missing FILE/],
      [['app.js'], /--url is missing/],
      [['app.js', 'b.js', '--url', url], /app\.js b\.js is unexpected/],
    ] as const) {
      const { code, stderr } = await runCommand(deploy, ...pm2, ...args)
      assert.equal(code, 2)
      assert.match(stderr, message)
    }
    const plan = await planOf(...pm2, 'app.js', '--url', url, '--restore', 'git checkout .', '--pm2', 'npx pm2')
    const [restore, reload] = plan[1]?.undo ?? []
    assert.deepEqual(restore?.do === 'run' && restore.argv, ['git', 'checkout', '.'])
    assert.deepEqual(reload?.do === 'run' && [reload.argv.slice(0, 3), reload.env], [
      ['npx', 'pm2', 'reload'],
      { FLEET_VERSION: '7' },
    ])
  })
})
