import { readEnv } from '../base/env.ts'
import { onExitSignal } from '../instance/lifecycle/signals.ts'
import { serveControl } from './control.ts'
import { type Notify, serviceNotifier } from './notify.ts'
import type { SupervisorLog, SupervisorOptions } from './options.ts'
import { Supervisor } from './supervisor.ts'

export interface RunOptions extends Omit<SupervisorOptions, 'onChange'> {
  /** Path of the control socket for `fleet reload`. @default none */
  control?: string
  /** NOTIFY_SOCKET: the service manager's socket. */
  notifySocket?: string
  /** WATCHDOG_USEC: the service manager's watchdog timeout, in microseconds. */
  watchdogUsec?: number
}

/**
 * Runs a group of workers until a signal ends it: SIGHUP reloads; SIGTERM and SIGINT drain, and a second one after 300 ms kills.
 * The process exits with 0 when no request was cut off, else with 1.
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
      const notified = notify('STOPPING=1')
      server?.close()
      const code = await supervisor.stop()
      await notified
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
  if (watchdogUsec) keepAlive(notify, watchdogUsec)
}

/**
 * Sends keep-alive pings twice per timeout, as sd_watchdog_enabled(3) advises. A ping is skipped while one is pending;
 * otherwise pings would pile up on a busy machine and delay later notifications.
 */
function keepAlive(notify: Notify, watchdogUsec: number): void {
  let pending = false
  setInterval(async () => {
    if (pending) return
    pending = true
    await notify('WATCHDOG=1')
    pending = false
  }, watchdogUsec / 2_000)
}

/**
 * Checks whether a build becomes ready: starts one worker on free ports, without a share of the fleet's traffic, and stops
 * it again.
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

/** Lines of JSON in pino's format, so that the same tools read the log of the group and those of its workers. */
export function jsonLog(write: (line: string) => void): SupervisorLog {
  const at =
    (level: number) =>
    ({ err, ...fields }: { err?: unknown }, msg: string): void => {
      const error = err instanceof Error ? { err: { type: err.name, message: err.message } } : {}
      write(JSON.stringify({ level, time: Date.now(), pid: process.pid, name: 'fleet', ...fields, ...error, msg }))
    }
  return { info: at(30), warn: at(40), error: at(50) }
}
