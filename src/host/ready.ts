import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/** How often readiness is looked at, ms; it is read from memory. */
const lookEveryMs = 25

/** Calls back once the app serves and its critical checks pass, if that ever happens. */
export function onceReady(app: FastifyInstance, ready: () => void): void {
  const timer = setInterval(() => {
    // Without the health room nothing more can be known than that it serves.
    if (!(app.fleet.ready ?? app.fleet.state === 'serving')) return
    clearInterval(timer)
    ready()
  }, lookEveryMs).unref()
  app.addHook('onClose', async () => clearInterval(timer))
}

/**
 * Lets the app listen only when its critical checks pass, and ends the process with exit code 1 when that takes longer
 * than `timeoutMs`. A process that shares its port gets requests as soon as it listens, so a build that never becomes
 * ready would otherwise answer some of them until its time is up.
 */
export function listenOnceReady(app: FastifyInstance, timeoutMs: number): void {
  const listen = app.listen as (...args: unknown[]) => unknown
  const later = async (args: unknown[]): Promise<unknown> => {
    // A failed start is `listen`'s to report.
    await app.ready().then(
      () => passed(app, timeoutMs),
      () => undefined,
    )
    return await listen.apply(app, args)
  }
  app.listen = ((...args: unknown[]) => {
    const listening = later(args)
    // With a callback `listen` reports to that alone.
    return typeof args.at(-1) === 'function' ? void listening : listening
  }) as typeof app.listen
}

async function passed(app: FastifyInstance, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs
  for (let waiting = unmet(app); waiting.length > 0; waiting = unmet(app)) {
    if (performance.now() > deadline) {
      app.log.fatal({ checks: waiting, timeoutMs }, 'not ready in time')
      await app.fleet.shutdown('not ready in time')
      process.exit(1)
    }
    await delay(lookEveryMs)
  }
}

function unmet(app: FastifyInstance): string[] {
  const reports = Object.entries(app.hasDecorator('health') ? app.health.reports : {})
  return reports.filter(([, { critical, status }]) => critical && status !== 'up').map(([name]) => name)
}
