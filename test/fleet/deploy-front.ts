import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import deploy from '../../src/cli/commands/deploy.ts'
import { servers } from '../../src/cli/deploy/haproxy-api.ts'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { runCommand, type Said } from '../cli/commands.ts'
import { releases, startFront as startHaproxy } from '../haproxy/haproxy.ts'
import { sendRequest, Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
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

const starts = { nginx: nginxFront, haproxy: haproxyFront }
export type FrontName = keyof typeof starts
export const fronts: readonly FrontName[] = ['nginx', 'haproxy']

/** Three addresses for instances, two of them in use, behind a load balancer that `fleet deploy` controls. */
export class DeployedFleet {
  readonly places: Places
  readonly front: Front
  readonly a: string
  readonly b: string
  readonly c: string

  private constructor(places: Places, front: Front) {
    this.places = places
    this.front = front
    ;[this.a = '', this.b = '', this.c = ''] = places.addresses
  }

  /** Starts version 1 at `a` and `b`. */
  static async start(name: FrontName): Promise<DeployedFleet> {
    const places = await Places.find(3)
    await places.put('1', ...places.addresses.slice(0, 2))
    const front = await starts[name](places)
    await until(async () => (await front.members()).length === 2, { what: 'two members' })
    await until(() => sendRequest(front.port, 'GET', '/'), { what: 'a response through the load balancer' })
    return new DeployedFleet(places, front)
  }

  common(version: string): string[] {
    const { front, places } = this
    return [
      ...[...front.options, '--version', version, '--start', places.start, '--stop', places.stop],
      ...['--timeout', '15000', '--token', token],
    ]
  }

  get targets(): string[] {
    return ['--target', this.a, '--target', this.b]
  }

  get sides(): string[] {
    return ['--blue', this.a, '--blue', this.b, '--green', this.c, '--window', '500']
  }

  get canary(): string[] {
    return [
      ...[...this.targets, '--canary', this.c, '--percent', '30', '--window', '3000'],
      // Latency on a loaded machine is not significant.
      ...['--min-requests', '20', '--p95-factor', '1000'],
    ]
  }

  /** Runs `fleet deploy`. */
  run(strategy: string, version: string, ...more: string[]): Promise<Said> {
    return runCommand(deploy, strategy, ...this.common(version), ...more)
  }

  async passes(strategy: string, version: string, ...more: string[]): Promise<void> {
    const { code, stderr } = await this.run(strategy, version, ...more)
    assert.equal(code, 0, stderr)
  }

  async isRolledBack(why: RegExp, strategy: string, version: string, ...more: string[]): Promise<void> {
    const { code, stderr } = await this.run(strategy, version, ...more)
    assert.equal(code, 1, stderr)
    assert.match(stderr, /FLEET_ERR_DEPLOY_FAILED/)
    assert.match(stderr, why)
  }

  /** Asserts which version runs at each address, and that the load balancer sends requests to these addresses. */
  async serves(versions: readonly (string | undefined)[]): Promise<void> {
    assert.deepEqual(await this.places.versions(), versions)
    assert.deepEqual(
      await this.front.members(),
      this.places.addresses.filter((_, i) => versions[i] !== undefined),
    )
  }
}
