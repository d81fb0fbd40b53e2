import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { beforeListen } from '../base/before-listen.ts'

/** How often readiness is checked, ms; it is read from memory. */
const pollIntervalMs = 25

/** Calls `ready` once, when the app serves and its critical checks pass. */
export function onceReady(app: FastifyInstance, ready: () => void): void {
  const timer = setInterval(() => {
    // Without the health plugin, `serving` is all that is known.
    if (!(app.fleet.ready ?? app.fleet.state === 'serving')) return
    clearInterval(timer)
    ready()
  }, pollIntervalMs).unref()
  app.addHook('onClose', async () => clearInterval(timer))
}

/**
 * Delays `listen` until the app's critical checks pass, and exits with code 1 when that takes longer than `timeoutMs`. A
 * process that shares its port receives requests as soon as it listens, so a build that never becomes ready would
 * otherwise serve some of them until the timeout.
 */
export const listenOnceReady = (app: FastifyInstance, timeoutMs: number): void =>
  beforeListen(app, () => checksPass(app, timeoutMs))

async function checksPass(app: FastifyInstance, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs
  for (let failing = failingChecks(app); failing.length > 0; failing = failingChecks(app)) {
    if (performance.now() > deadline) {
      app.log.fatal({ checks: failing, timeoutMs }, 'not ready in time')
      await app.fleet.shutdown('not ready in time')
      process.exit(1)
    }
    await delay(pollIntervalMs)
  }
}

function failingChecks(app: FastifyInstance): string[] {
  const reports = Object.entries(app.hasDecorator('health') ? app.health.reports : {})
  return reports.filter(([, { critical, status }]) => critical && status !== 'up').map(([name]) => name)
}
