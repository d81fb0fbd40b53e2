import cluster from 'node:cluster'
import { existsSync } from 'node:fs'
import { availableParallelism, hostname } from 'node:os'
import { resolve } from 'node:path'
import { type FleetEnv, readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { defaultMemoryLimit } from '../../host/memory.ts'
import type { SupervisorOptions } from '../../host/options.ts'
import { check, jsonLog, run } from '../../host/run.ts'
import { type Command, defineCommand, type Values } from '../args.ts'

const options = {
  workers: { type: 'string', short: 'w', default: 'max', describe: 'N processes, or max: one for each processor' },
  check: {
    type: 'boolean',
    describe: 'Only see whether one worker becomes ready, on a free port; the exit code tells',
  },
  control: { type: 'string', describe: 'PATH of a socket on which `fleet reload` is answered' },
  'ready-timeout': { type: 'string', default: '30000', describe: 'MS that a worker may take to become ready' },
  'stuck-after': { type: 'string', default: '5000', describe: 'MS of silence after which a worker is replaced' },
  'memory-limit': {
    type: 'string',
    describe: 'MIB of memory at which a worker is replaced; 0: never (default: its part of 90 % of what there is)',
  },
} as const

const command: Command = defineCommand({
  name: 'start',
  summary: 'Run an app in several processes that share its port',
  usage: `fleet start FILE [options] [-- ARGUMENTS]

SIGHUP replaces all workers, one after the other, without a loss; a build that does not become ready is not taken.
\`fleet reload\` does the same and tells how it went. SIGTERM and SIGINT drain; a second one ends at once.`,
  options,
  async run({ values, positionals, out }) {
    if (!cluster.isPrimary) throw new FleetError('FLEET_ERR_USAGE', 'this is a cluster worker; with pm2 use fork mode')
    const group = groupOptions(values, positionals, readEnv())
    const log = jsonLog((line) => process.stdout.write(`${line}\n`))
    if (values.check) {
      const ready = await check({ ...group, log: jsonLog(() => undefined) })
      out.result({ ready })
      if (ready) out.line('ready')
      else out.error(`${positionals[0]} does not become ready; what it wrote says why`)
      return ready ? 0 : 1
    }
    const { NOTIFY_SOCKET: notifySocket, WATCHDOG_USEC: watchdogUsec } = readEnv()
    await run({ ...group, log, control: values.control, notifySocket, watchdogUsec })
    return await new Promise<never>(() => undefined)
  },
})
export default command

/** @throws FLEET_ERR_USAGE */
export function groupOptions(
  values: Values<typeof options>,
  [given, ...args]: readonly string[],
  env: FleetEnv,
): Omit<SupervisorOptions, 'log' | 'onChange'> {
  if (given === undefined) throw new FleetError('FLEET_ERR_USAGE', 'give the FILE that each worker runs')
  // Not resolved through links: `current/app.js` is another file after the next release.
  const file = resolve(given)
  if (!existsSync(file)) throw new FleetError('FLEET_ERR_USAGE', `there is no file ${given}`)
  const workers = values.workers === 'max' ? availableParallelism() : int('workers', values.workers, 1, 1_024)
  const limit = values['memory-limit']
  return {
    file,
    args,
    workers,
    id: env.INSTANCE_ID ?? hostname(),
    readyTimeoutMs: int('ready-timeout', values['ready-timeout'], 1, 3_600_000),
    shutdownTimeoutMs: env.SHUTDOWN_TIMEOUT ?? 30_000,
    stuckAfterMs: int('stuck-after', values['stuck-after'], 1_500, 3_600_000),
    memoryLimit: limit === undefined ? defaultMemoryLimit(workers) : int('memory-limit', limit, 0, 1 << 24) * 1024 ** 2,
    // The service manager is told by the group, not by a worker.
    env: { NOTIFY_SOCKET: undefined, WATCHDOG_USEC: undefined, WATCHDOG_PID: undefined },
  }
}

function int(option: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= min && value <= max) return value
  throw new FleetError(
    'FLEET_ERR_USAGE',
    `--${option} must be a whole number from ${min} to ${max}, not ${JSON.stringify(text)}`,
  )
}
