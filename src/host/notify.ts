import { spawn } from 'node:child_process'

/** Reports the state of the service to the service manager, e.g. `notify('READY=1', 'STATUS=4 of 4 workers serve')`. */
export type Notify = (...assignments: string[]) => Promise<void>

/** How long the helper may take to send a line, ms: a hanging helper must not delay later lines or the exit. */
const helperTimeoutMs = 5_000

/**
 * The sd_notify(3) protocol. It needs a Unix datagram socket, which Node does not support, so it uses systemd's own helper.
 * The helper is a child of the service, so the unit needs `NotifyAccess=all`.
 *
 * @param socket `NOTIFY_SOCKET`; without it nothing is sent
 * @param warn called once when the socket is set but the helper is missing
 */
export function serviceNotifier(socket: string | undefined, warn: (message: string) => void): Notify {
  if (socket === undefined) return async () => {}
  let last: Promise<void> = Promise.resolve()
  let missing = false
  const send = (assignments: string[]): Promise<void> =>
    new Promise((resolve) => {
      const helper = spawn('systemd-notify', assignments, { stdio: 'ignore', timeout: helperTimeoutMs })
      helper.once('close', () => resolve())
      helper.once('error', (error) => {
        missing = true
        warn(`NOTIFY_SOCKET is set, but systemd-notify cannot be run (${error.message}); use Type=exec without it`)
        resolve()
      })
    })
  // Sequential: RELOADING=1 must not arrive after the READY=1 that ends the reload.
  return (...assignments) => {
    last = last.then(() => (missing ? undefined : send(assignments)))
    return last
  }
}
