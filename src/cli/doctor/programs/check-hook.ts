// Loaded with `--import` into the app of `fleet doctor --app`. The app starts as usual, but nothing listens: the first call of
// `listen`, or the end of the program, reports the effective configuration of each Fastify app and ends the process. Plugins are
// loaded, `onReady` hooks do not run: no leader is elected and no job starts. A program that creates no app may export a plugin,
// which `fastify start` of fastify-cli would run.

import cluster from 'node:cluster'
import { subscribe } from 'node:diagnostics_channel'
import { Server } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { type EffectiveConfiguration, effectiveConfiguration } from '../../../instance/effective.ts'
import type { CheckReport } from '../../../instance/health/index.ts'
import { appOf, mainModule } from './exported-plugin.ts'

/** The message to `fleet doctor`. */
export interface AppReport {
  readonly doctor: 'report'
  readonly app?: EffectiveConfiguration & { readonly checks: Readonly<Record<string, CheckReport>> }
  /** Why the app does not start. */
  readonly error?: string
}

/** Time after the creation of an app in which the program may listen, ms. Fewer where it waits for nothing for so many checks in a row. */
const patienceMs = 8_000
const [calmChecks, calmCheckMs] = [20, 100]
/** Time for a check, for connections that are being opened, between two checks, and for closing them; ms. */
const [checkMs, openMs, retryMs, closeMs] = [10_000, 3_000, 500, 2_000]

const apps: FastifyInstance[] = []
const patience = setTimeout(end, patienceMs).unref()
let reporting = false
let wrapping = false
const longestTimer = 2 ** 31 - 1

subscribe('fastify.initialization', (message) => {
  const app = (message as { fastify: FastifyInstance }).fastify
  apps.push(app)
  patience.refresh()
  if (apps.length === 1) void untilCalm().then(end)
  if (wrapping && apps.length > 1)
    void fail(new Error('it exports a function that creates an app: pass the file that calls it'))
  const listen = (): Promise<never> => report(app)
  // Plugins replace `listen` to prepare it; nothing is prepared here.
  Object.defineProperty(app, 'listen', { get: () => listen, set: () => {}, configurable: true })
})

Server.prototype.listen = function listen(this: Server) {
  const app = apps.find(({ server }) => (server as unknown) === this)
  if (app) void report(app)
  // Other servers seem to listen, so that the program goes on.
  this.address = () => ({ address: '127.0.0.1', family: 'IPv4', port: 0 })
  setImmediate(() => this.emit('listening'))
  return this
} as Server['listen']

process.on('beforeExit', end)
process.on('uncaughtException', (error) => void fail(error))
if (cluster.isPrimary) cluster.on('message', (_, message) => isReport(message) && send(message))

const isReport = (message: unknown): message is AppReport => (message as AppReport | null)?.doctor === 'report'

/** The main module has run, and the program has waited for no connection, file or timer for a while. */
async function untilCalm(): Promise<void> {
  // An error of the main module is reported as one that nobody caught.
  await mainModule().catch(() => {})
  for (let calm = 0; calm < calmChecks; calm = isBusy() ? 0 : calm + 1)
    await new Promise((resolve) => setTimeout(resolve, calmCheckMs).unref())
}

/** Without open connections, which an app keeps. Timers of this hook do not count. */
const isBusy = (): boolean =>
  process.getActiveResourcesInfo().some((name) => /Req|ConnectWrap|Timeout|Immediate|Process/.test(name))

/** The program never listens: the last app is the one that others are registered in or tested with. */
function end(): void {
  const app = apps.at(-1)
  if (app) void report(app)
  else if (!wrapping) void wrap()
}

/** Without an app, the program may export a plugin. */
async function wrap(): Promise<void> {
  wrapping = true
  // Keeps the process until the report.
  setInterval(() => {}, longestTimer)
  const app = await appOf(() => mainModule()).catch(fail)
  if (app === undefined) process.exit(0)
  await report(app)
}

async function report(app: FastifyInstance): Promise<never> {
  if (reporting) return await new Promise<never>(() => {})
  reporting = true
  try {
    await app.after()
    const checks = app.hasDecorator('health') ? await checksOf(app) : {}
    await send({ doctor: 'report', app: { ...effectiveConfiguration(app), checks } })
  } catch (error) {
    await send({ doctor: 'report', error: (error as Error).message })
  }
  await bounded(
    app.close().catch(() => {}),
    closeMs,
  )
  process.exit(0)
}

/** The checks, repeated while connections are still being opened. */
async function checksOf({ health }: FastifyInstance): Promise<Record<string, CheckReport>> {
  const end = performance.now() + openMs
  for (;;) {
    const checks = (await bounded(health.check(), checkMs)) ?? {}
    const isDown = Object.values(checks).some(({ status }) => status === 'down')
    if (!isDown || performance.now() > end) return checks
    await new Promise((resolve) => setTimeout(resolve, retryMs))
  }
}

async function fail(error: unknown): Promise<never> {
  if (reporting) return await new Promise<never>(() => {})
  reporting = true
  await send({ doctor: 'report', error: error instanceof Error ? error.message : String(error) })
  process.exit(1)
}

const bounded = <T>(promise: Promise<T>, ms: number): Promise<T | undefined> =>
  Promise.race([promise, new Promise<undefined>((resolve) => setTimeout(resolve, ms))])

const send = (message: AppReport): Promise<void> =>
  new Promise((resolve) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve())
    else resolve()
  })
