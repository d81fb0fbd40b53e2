import { readEnv } from '../base/env.ts'
import { onExitSignal } from '../instance/lifecycle/signals.ts'
import { serveControl } from './control.ts'
import { type Notify, serviceNotifier } from './notify.ts'
import { Supervisor, type SupervisorLog, type SupervisorOptions } from './supervisor.ts'

export interface RunOptions extends Omit<SupervisorOptions, 'onChange'> {
  /** Path of the socket on which `fleet reload` is answered; none when left out. */
  control?: string
  /** NOTIFY_SOCKET: where the service manager listens. */
  notifySocket?: string
  /** WATCHDOG_USEC: the service manager wants to hear of us that often, in microseconds. */
  watchdogUsec?: number
}

/**
 * Runs a group until a signal ends it: SIGHUP reloads, SIGTERM and SIGINT drain, a second one of them ends at once.
 * The process exits with 0 when nothing was cut, else with 1.
 *
 * @throws FLEET_ERR_WORKER_NOT_READY when no worker serves; FLEET_ERR_CONTROL
 */
export async function run({ control, notifySocket, watchdogUsec, ...options }: RunOptions): Promise<void> {
  const { log } = options
  const notify = serviceNotifier(notifySocket, (message) => log.warn({}, message))
  const status = (): string => `STATUS=${supervisor.serving.up} of ${supervisor.serving.of} workers serve`
  const supervisor = new Supervisor({ ...options, onChange: () => void notify(status()) })

  const reload = async (): Promise<void> => {
    void notify('RELOADING=1')
    try {
      await supervisor.reload()
    } finally {
      void notify('READY=1', status())
    }
  }
  process.on('SIGHUP', () => void reload().catch(() => undefined))
  onExitSignal({
    first: async (reason) => {
      log.info({ reason, workers: supervisor.serving.up }, 'stopping')
      const told = notify('STOPPING=1')
      server?.close()
      const code = await supervisor.stop()
      await told
      return code
    },
    second: () => supervisor.kill(),
  })

  const server = control === undefined ? undefined : await serveControl(control, reload)
  try {
    await supervisor.start()
  } catch (error) {
    server?.close()
    throw error
  }
  await notify('READY=1', status())
  if (watchdogUsec) beat(notify, watchdogUsec)
}

/**
 * Signs of life, twice as often as asked, as sd_watchdog_enabled(3) advises; none while one is on its way, or they would
 * pile up on a busy machine before what is said next.
 */
function beat(notify: Notify, watchdogUsec: number): void {
  let onItsWay = false
  setInterval(async () => {
    if (onItsWay) return
    onItsWay = true
    await notify('WATCHDOG=1')
    onItsWay = false
  }, watchdogUsec / 2_000)
}

/**
 * Whether a build becomes ready: one worker is started, on free ports and without a share of the fleet's traffic, and
 * ended again.
 */
export async function check(options: Omit<SupervisorOptions, 'onChange' | 'workers'>): Promise<boolean> {
  const adminPort = readEnv().FLEET_ADMIN_PORT === undefined ? undefined : '0'
  const env = { ...options.env, PORT: '0', FLEET_ADMIN_PORT: adminPort, FLEET_WEIGHT: '0' }
  const supervisor = new Supervisor({ ...options, env, workers: 1, onChange: () => undefined })
  onExitSignal({ first: () => supervisor.stop().then(() => 1), second: () => supervisor.kill() })
  const ready = await supervisor.start().then(
    () => supervisor.serving.ready === 1,
    () => false,
  )
  await supervisor.stop()
  return ready
}

/** Lines of JSON as pino writes them, so that the group's log and its workers' can be read by the same tools. */
export function jsonLog(write: (line: string) => void): SupervisorLog {
  const at =
    (level: number) =>
    ({ err, ...fields }: { err?: unknown }, msg: string): void => {
      const error = err instanceof Error ? { err: { type: err.name, message: err.message } } : {}
      write(JSON.stringify({ level, time: Date.now(), pid: process.pid, name: 'fleet', ...fields, ...error, msg }))
    }
  return { info: at(30), warn: at(40), error: at(50) }
}
