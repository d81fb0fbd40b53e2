import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { FleetError } from '../../../base/errors.ts'
import type { DeployPlan, Healthy, Run } from '../step.ts'

export interface ComposeOptions {
  /** Command that runs compose, e.g. `docker compose -f docker-compose.loadbalancer.yml`. */
  readonly command: readonly string[]
  readonly service: string
  /** Number of containers. @default the current number */
  readonly scale?: number
  readonly version: string
  readonly color?: string
  readonly timeoutMs: number
}

export interface Container {
  readonly id: string
  /** FLEET_VERSION in its environment. */
  readonly version?: string
  /** State in Docker: `healthy`, `starting`, `unhealthy`; without a health check `running`, `exited`, … */
  readonly state?: string
}

/**
 * Starts new containers beside the old ones and waits for their health check, which checks readiness. Then it stops the old ones, which
 * drain. Fronts resolve the service's name.
 *
 * @param running the current containers; some already have this version after an interrupted deploy
 */
export function composeRolling(options: ComposeOptions, running: readonly Container[]): DeployPlan {
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
    // Building or pulling images takes extra time.
    timeoutMs: timeoutMs * 2,
  })
  const healthy: Healthy = { do: 'healthy', command, service, besides: old, count: scale }
  const docker = (...args: string[]): Run => ({ do: 'run', argv: ['docker', ...args], timeoutMs })
  if (old.length === 0 && fresh === scale) return []
  return [
    {
      title: `start ${scale} × ${service} of version ${version}`,
      // Compose 2.26 sometimes exits with 0 after a timeout, about once in ten times.
      steps: [up(old.length + scale), healthy],
      // Compose removes the highest numbers first, which are the new containers.
      undo: old.length > 0 ? [{ ...up(old.length), env: {} }] : [],
    },
    ...(old.length === 0
      ? []
      : [
          {
            title: `stop ${old.length} old × ${service}`,
            // Compose would choose by number and stop the new ones.
            steps: [docker('stop', ...old), docker('rm', ...old)],
            undo: [],
          },
        ]),
  ]
}

const run = promisify(execFile)

/** The part of `docker inspect` that is used. */
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
