import cluster from 'node:cluster'
import { existsSync } from 'node:fs'
import { availableParallelism, hostname } from 'node:os'
import { resolve } from 'node:path'
import { type FleetEnv, readEnv } from '../../base/env.ts'
import { defaultMemoryLimit } from '../../host/memory.ts'
import type { SupervisorOptions } from '../../host/options.ts'
import { check, jsonLog, run } from '../../host/run.ts'
import {
  type Command,
  defineCommand,
  flag,
  integerOption,
  option,
  portOption,
  usageError,
  type Values,
} from '../args.ts'

const options = {
  port: option('PORT that the workers share, in their PORT; 0: a free one (default: PORT of the environment)'),
  workers: option('N processes, or max: one per processor', { short: 'w', default: 'max' }),
  check: flag('Only start one worker on a free port; exit with 0 if it becomes ready, else with 1'),
  control: option('PATH of the control socket for `fleet reload`'),
  'ready-timeout': option('MS a worker may take to become ready', { default: '30000' }),
  'stuck-after': option('MS of silence after which a worker is replaced', { default: '5000' }),
  'memory-limit': option(
    'MIB of memory at which a worker is replaced; 0: never (default: its share of 90 % of the memory)',
  ),
} as const

const command: Command = defineCommand({
  name: 'start',
  summary: 'Run an app in several processes that share its port',
  usage: `fleet start FILE [options] [-- ARGUMENTS]

SIGHUP replaces the workers one by one without losing requests; the old workers stay if the new build does not become ready.
\`fleet reload\` does the same and reports the result. SIGTERM and SIGINT drain; a second one exits at once.`,
  options,
  suggest: { files: true },
  async run({ values, positionals, out }) {
    if (!cluster.isPrimary) throw usageError('`fleet start` cannot run in a cluster worker; with pm2 use fork mode')
    const group = groupOptions(values, positionals, readEnv())
    const log = jsonLog((line) => process.stdout.write(`${line}\n`))
    if (values.check) {
      const ready = await check({ ...group, log: jsonLog(() => undefined) })
      out.result({ ready })
      if (ready) out.line('ready')
      else out.error(`${positionals[0]} did not become ready; see its output`)
      return ready ? 0 : 1
    }
    const { NOTIFY_SOCKET: notifySocket, WATCHDOG_USEC: watchdogUsec } = readEnv()
    await run({ ...group, log, control: values.control, notifySocket, watchdogUsec })
    return await new Promise<never>(() => undefined)
  },
})
export default command

/** @throws FLEET_ERR_USAGE */
function groupOptions(
  values: Values<typeof options>,
  [given, ...args]: readonly string[],
  env: FleetEnv,
): Omit<SupervisorOptions, 'log' | 'onChange'> {
  if (given === undefined) throw usageError('missing FILE, the program of each worker')
  // Links are not resolved: `current/app.js` is another file after the next release.
  const file = resolve(given)
  if (!existsSync(file)) throw usageError(`no such file: ${given}`)
  const workers = values.workers === 'max' ? availableParallelism() : integerOption('workers', values.workers, 1, 1_024)
  const limit = values['memory-limit']
  return {
    file,
    args,
    workers,
    id: env.INSTANCE_ID ?? hostname(),
    readyTimeoutMs: integerOption('ready-timeout', values['ready-timeout'], 1, 3_600_000),
    shutdownTimeoutMs: env.SHUTDOWN_TIMEOUT ?? 30_000,
    stuckAfterMs: integerOption('stuck-after', values['stuck-after'], 1_500, 3_600_000),
    memoryLimit:
      limit === undefined ? defaultMemoryLimit(workers) : integerOption('memory-limit', limit, 0, 1 << 24) * 1024 ** 2,
    // The supervisor notifies the service manager, not a worker.
    env: {
      NOTIFY_SOCKET: undefined,
      WATCHDOG_USEC: undefined,
      WATCHDOG_PID: undefined,
      ...(values.port !== undefined && { PORT: `${portOption(values.port)}` }),
    },
  }
}
