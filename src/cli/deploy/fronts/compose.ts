import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { FleetError } from '../../../base/errors.ts'
import type { Healthy, Plan, Run } from '../step.ts'

export interface ComposeOptions {
  /** How compose is called, e.g. `docker compose -f docker-compose.loadbalancer.yml`. */
  readonly command: readonly string[]
  readonly service: string
  /** How many containers there should be. @default as many as there are */
  readonly scale?: number
  readonly version: string
  readonly color?: string
  readonly timeoutMs: number
}

export interface Container {
  readonly id: string
  /** FLEET_VERSION in its environment. */
  readonly version?: string
  /** What Docker says of it: `healthy`, `starting`, `unhealthy`; without a health check `running`, `exited`, … */
  readonly state?: string
}

/**
 * New containers beside the old ones; `--wait` is for their health check, which asks for readiness; when they are seen to
 * be healthy the old ones are stopped, and drain. Fronts follow the service's name.
 *
 * @param running containers of the service now: some are of this version when a deploy was interrupted
 */
export function composeRolling(options: ComposeOptions, running: readonly Container[]): Plan {
  const { command, service, version, color, timeoutMs } = options
  const old = running.filter((container) => container.version !== version).map(({ id }) => id)
  const fresh = running.length - old.length
  const scale = options.scale ?? Math.max(old.length, fresh, 1)
  const names = { FLEET_VERSION: version, ...(color === undefined ? {} : { FLEET_COLOR: color }) }
  const up = (count: number): Run => ({
    do: 'run',
    argv: [
      ...[...command, 'up', '--detach', '--no-deps', '--no-recreate', '--wait'],
      ...['--wait-timeout', `${Math.ceil(timeoutMs / 1000)}`, '--scale', `${service}=${count}`, service],
    ],
    env: names,
    // Images may have to be built or pulled before anything is waited for.
    timeoutMs: timeoutMs * 2,
  })
  const healthy: Healthy = { do: 'healthy', command, service, besides: old, count: scale }
  const docker = (...args: string[]): Run => ({ do: 'run', argv: ['docker', ...args], timeoutMs })
  if (old.length === 0 && fresh === scale) return []
  return [
    {
      title: `start ${scale} × ${service} of version ${version}`,
      // Compose 2.26 was seen to end with 0 when the time was up, too: about once in ten times.
      steps: [up(old.length + scale), healthy],
      // Compose takes away the highest numbers first, which are the new ones.
      undo: old.length > 0 ? [{ ...up(old.length), env: {} }] : [],
    },
    ...(old.length === 0
      ? []
      : [
          {
            title: `end ${old.length} × ${service} of before`,
            // Compose itself would choose by number, and so end the new ones.
            steps: [docker('stop', ...old), docker('rm', ...old)],
            undo: [],
          },
        ]),
  ]
}

const run = promisify(execFile)

/** What is read of `docker inspect`. */
interface Inspected {
  readonly Id: string
  readonly Config: { readonly Env: readonly string[] }
  readonly State: { readonly Status: string; readonly Health?: { readonly Status: string } }
}

/** @throws FLEET_ERR_UNREACHABLE */
export async function containers({
  command,
  service,
}: Pick<ComposeOptions, 'command' | 'service'>): Promise<readonly Container[]> {
  try {
    const [program = 'docker', ...args] = command
    const { stdout: listed } = await run(program, [...args, 'ps', '--quiet', service])
    const ids = listed.split('\n').filter(Boolean)
    if (ids.length === 0) return []
    const { stdout } = await run('docker', ['inspect', ...ids])
    return (JSON.parse(stdout) as Inspected[]).map(({ Id, Config, State }) => {
      const version = Config.Env.find((entry) => entry.startsWith('FLEET_VERSION='))
      const state = State.Status === 'running' ? (State.Health?.Status ?? 'running') : State.Status
      return { id: Id, version: version?.slice('FLEET_VERSION='.length), state }
    })
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string }
    throw new FleetError('FLEET_ERR_UNREACHABLE', `compose: ${(stderr || message).trim()}`)
  }
}
