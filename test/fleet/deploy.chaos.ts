import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import deploy from '../../src/cli/commands/deploy.ts'
import { servers } from '../../src/cli/deploy/haproxy-api.ts'
import { readStatus } from '../../src/cli/deploy/instance-status.ts'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { runCommand, type Said } from '../cli/commands.ts'
import { releases, startFront as startHaproxy } from '../haproxy/haproxy.ts'
import { sendRequest, Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { fleetCommand } from '../host/group.ts'
import { nginx, startFront as startNginx } from '../nginx/front.ts'
import { Places, token } from './places.ts'

interface Front {
  readonly port: number
  /** Arguments of `fleet deploy` for it. */
  readonly options: readonly string[]
  /** Traffic that must not fail. */
  traffic(): Traffic
  /** The instances behind it. */
  members(): Promise<readonly string[]>
}

/** The shipped nginx configuration. */
async function nginxFront({ addresses: [a, b] }: Places): Promise<Front> {
  const front = await startNginx({ FLEET_TARGETS: `${a} ${b}`, FLEET_FAIL_TIMEOUT: '2s' })
  const file = join(front.folder, 'conf.d/upstreams.conf')
  const command = `${await nginx()} -p ${front.folder} -c ${join(front.folder, 'nginx.conf')} -e stderr`
  return {
    port: front.port,
    traffic: () => new Traffic(front.port, 4, 'browser'),
    options: ['--front', 'nginx', '--upstreams', file, '--nginx', command, '--settle', '500'],
    members: async () => {
      const [, body = ''] = /upstream fleet \{([^}]*)\}/.exec(readFileSync(file, 'utf8')) ?? []
      const lines = [...body.matchAll(/server (\S+)([^;]*);/g)]
      return lines.flatMap(([, address = '', settings = '']) => (settings.includes('down') ? [] : [address])).sort()
    },
  }
}

/** All traffic comes from one address, so limits are raised. */
const unlimited = { LB_RATE: '1000000', LB_RATE_TARPIT: '1000000' }

/** The shipped haproxy.cfg, with agent checks. */
async function haproxyFront(places: Places): Promise<Front> {
  const socket = join(temporaryFolder('socket'), 'admin.sock')
  const env = places.addresses.flatMap((address, i) => [
    [`LB_SERVER_${i + 1}`, address],
    [`LB_AGENT_${i + 1}`, String(places.agentPort(address))],
  ])
  const [release] = releases
  assert.ok(release)
  const front = await startHaproxy(release, { ...Object.fromEntries(env), LB_SOCKET: socket, ...unlimited })
  const port = Number(new URL(front.url).port)
  return {
    port,
    traffic: () => new Traffic(port, 4),
    options: ['--front', 'haproxy', '--socket', socket],
    members: async () => (await servers(socket, 'fleet')).flatMap(({ up, address }) => (up ? [address] : [])).sort(),
  }
}

for (const [name, start] of Object.entries({ nginx: nginxFront, haproxy: haproxyFront })) {
  describe(`fleet deploy with ${name}`, { timeout: 300_000 }, () => {
    let places: Places
    let front: Front
    let a: string
    let b: string
    let c: string
    before(async () => {
      places = await Places.find(3)
      ;[a = '', b = '', c = ''] = places.addresses
      await places.put('1', a, b)
      front = await start(places)
      await until(async () => (await front.members()).length === 2, { what: 'two members' })
      await until(() => sendRequest(front.port, 'GET', '/'), { what: 'a response through the load balancer' })
    })
    after(() => places?.clear())

    const common = (version: string): string[] => [
      ...[...front.options, '--version', version, '--start', places.start, '--stop', places.stop],
      ...['--timeout', '15000', '--token', token],
    ]
    const targets = (): string[] => ['--target', a, '--target', b]
    const run = (strategy: string, version: string, ...more: string[]): Promise<Said> =>
      runCommand(deploy, strategy, ...common(version), ...more)
    /** Asserts that no request fails meanwhile. */
    const underLoad = async (task: () => Promise<void>): Promise<Traffic> => {
      const traffic = front.traffic()
      try {
        await task()
        await traffic.stop(places.orders)
        return traffic
      } finally {
        await traffic.halt()
      }
    }
    const passes = ({ code, stderr }: Said): void => assert.equal(code, 0, stderr)
    const rolledBack = ({ code, stderr }: Said, why: RegExp): void => {
      assert.equal(code, 1, stderr)
      assert.match(stderr, /FLEET_ERR_DEPLOY_FAILED/)
      assert.match(stderr, why)
    }

    test('--dry-run prints the plan and changes nothing', async () => {
      const { code, stdout, stderr } = await run('rolling', '2', ...targets(), '--dry-run', '--json')
      assert.equal(code, 0, stderr)
      assert.equal(JSON.parse(stdout).plan.length, 5)
      assert.ok(!stdout.includes(token))
      assert.deepEqual(await places.versions(), ['1', '1', undefined])
    })

    test('rolling: replaces every instance without a failed request', async (t) => {
      const traffic = await underLoad(async () => passes(await run('rolling', '2', ...targets())))
      assert.deepEqual(await places.versions(), ['2', '2', undefined])
      assert.deepEqual(await front.members(), [a, b])
      t.diagnostic(`${traffic.requests} requests, 0 failed`)
    })

    test('a second run has nothing to do', async () => {
      const { code, stdout } = await run('rolling', '2', ...targets())
      assert.equal(code, 0)
      assert.match(stdout, /nothing to do/)
    })

    test('rolling: rolls back a build that never becomes ready, and sends it no request', async () => {
      const traffic = await underLoad(async () => {
        rolledBack(await run('rolling', 'stuck', ...targets(), '--timeout', '8000'), /not ready as version stuck/)
      })
      assert.deepEqual(traffic.versions, new Set(['2']))
      assert.deepEqual(await places.versions(), ['2', '2', undefined])
      assert.deepEqual(await front.members(), [a, b])
    })

    test('rolling: the next run completes an interrupted one without a failed request', async () => {
      await underLoad(async () => {
        const first = fleetCommand(['deploy', 'rolling', ...common('3'), ...targets()])
        await until(async () => (await readStatus(`http://${a}`)).version === '3', {
          what: 'the first',
          timeoutMs: 30_000,
        })
        await first.kill('SIGKILL')
        passes(await run('rolling', '3', ...targets()))
      })
      assert.deepEqual(await places.versions(), ['3', '3', undefined])
      assert.deepEqual(await front.members(), [a, b])
    })

    const judged = (): string[] => [
      ...[...targets(), '--canary', c, '--percent', '30', '--window', '3000'],
      // Latency on a loaded machine is not significant.
      ...['--min-requests', '20', '--p95-factor', '1000'],
    ]

    test('canary: detects and stops one that responds 5xx', async () => {
      const traffic = front.traffic()
      try {
        rolledBack(await run('canary', 'faulty', ...judged()), /the canary is worse: .* % of its responses are 5xx/)
      } finally {
        await traffic.halt()
      }
      assert.ok(traffic.failures.every((failure) => failure.includes('500') || failure.includes('a faulty build')))
      assert.deepEqual(await places.versions(), ['3', '3', undefined])
      assert.deepEqual(await front.members(), [a, b])
      await underLoad(async () => {
        for (let i = 0; i < 20; i++) assert.equal((await sendRequest(front.port, 'GET', '/')).version, '3')
      })
    })

    test('canary: rejects one that receives no requests', async () => {
      rolledBack(await run('canary', '4', ...judged(), '--window', '500'), /a comparison needs/)
      assert.deepEqual(await places.versions(), ['3', '3', undefined])
    })

    test('canary: a good one replaces the others without a failed request', async () => {
      const traffic = await underLoad(async () => passes(await run('canary', '4', ...judged())))
      assert.deepEqual(traffic.versions, new Set(['3', '4']))
      assert.deepEqual(await places.versions(), ['4', '4', undefined])
      assert.deepEqual(await front.members(), [a, b])
    })

    const sides = (): string[] => ['--blue', a, '--blue', b, '--green', c, '--window', '500']

    test('blue-green: does not switch to a side that never becomes ready, without a failed request', async () => {
      const traffic = await underLoad(async () => {
        rolledBack(
          await run('blue-green', 'stuck', ...sides(), '--timeout', '8000'),
          /not ready as version stuck, green/,
        )
      })
      assert.deepEqual(traffic.versions, new Set(['4']))
      assert.deepEqual(await places.versions(), ['4', '4', undefined])
    })

    test('blue-green: switches there and back without a failed request', async () => {
      await underLoad(async () => {
        passes(await run('blue-green', '5', ...sides()))
        assert.deepEqual(await places.versions(), [undefined, undefined, '5'])
        assert.deepEqual(await front.members(), [c])
        assert.equal((await sendRequest(front.port, 'GET', '/')).version, '5')
        passes(await run('blue-green', '6', ...sides()))
      })
      assert.deepEqual(await places.versions(), ['6', '6', undefined])
      assert.deepEqual(await front.members(), [a, b])
    })
  })
}
