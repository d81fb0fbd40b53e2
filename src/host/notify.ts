import { spawn } from 'node:child_process'

/** Tells the service manager how the service is, e.g. `notify('READY=1', 'STATUS=4 of 4 workers serve')`. */
export type Notify = (...assignments: string[]) => Promise<void>

/** How long the helper may take to send a line, ms: what hangs must not hold the lines after it, nor the end. */
const helperTimeoutMs = 5_000

/**
 * The sd_notify(3) protocol. It needs a Unix datagram socket, which Node does not have, so systemd's own helper is
 * asked to send. The helper is a child of the service, so the unit needs `NotifyAccess=all`.
 *
 * @param socket `NOTIFY_SOCKET`; without it nobody listens, and nothing is done
 * @param warn told once when there is somebody to notify but no helper
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
  // One after the other: RELOADING=1 must not arrive after the READY=1 that ends the reload.
  return (...assignments) => {
    last = last.then(() => (missing ? undefined : send(assignments)))
    return last
  }
}
