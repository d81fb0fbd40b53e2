import cluster from 'node:cluster'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import type { Registry } from 'prom-client'
import { readEnv } from '../base/env.ts'
import { promClient } from '../base/prom-client.ts'
import { lifecycle } from '../instance/lifecycle/index.ts'
import { type MetricsFormat, scrape } from '../instance/metrics/index.ts'
import { type FromWorker, isFleetMessage, type Snapshot, type ToWorker } from './messages.ts'
import { listenOnceReady, onceReady } from './ready.ts'

/** How often `fleet start` hears of this worker, ms. */
const beatEveryMs = 1_000
/** How long a scrape waits for the group's figures before it gives this worker's own, ms. */
const groupTimeoutMs = 3_000

/** Sends to the process above. Resolves when the message is on its way, or when nobody is there any more. */
function tell(message: FromWorker): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve())
    else resolve()
  })
}

/** What `fleet start` and this process say to each other, for all the apps of the process together. */
class WorkerSide {
  readonly #apps = new Map<FastifyInstance, Record<'drain' | 'undrain', () => void>>()
  readonly #registries = new Set<Registry>()
  readonly #scrapes = new Map<number, (snapshots: readonly Snapshot[]) => void>()
  #lastScrape = 0
  #leaving = false

  readonly #listener = (message: unknown): void => {
    if (isFleetMessage<ToWorker>(message)) this.#heard(message)
  }

  constructor() {
    process.on('message', this.#listener)
    setInterval(() => void tell({ fleet: 'beat', rss: process.memoryUsage.rss() }), beatEveryMs).unref()
    void tell({ fleet: 'hello' })
  }

  join(app: FastifyInstance): void {
    const { drain, undrain } = app.fleet
    this.#apps.set(app, { drain, undrain })
    // A front sees one port and cannot tell the workers behind it apart: what an operator drains is the group.
    app.fleet.drain = () => {
      drain()
      void tell({ fleet: 'drain' })
    }
    app.fleet.undrain = () => {
      undrain()
      void tell({ fleet: 'undrain' })
    }
    if (app.hasDecorator('metrics')) {
      this.#registries.add(app.metrics)
      app.metricsSource = { text: (format) => this.#scrape(format) }
    }
    app.addHook('onClose', async () => {
      await tell({ fleet: 'figures', snapshots: await this.#figures() })
      this.#apps.delete(app)
      // Who listens on the channel keeps the process alive; one whose apps are closed should be able to end.
      if (this.#apps.size === 0) process.off('message', this.#listener)
    })
  }

  #heard(message: ToWorker): void {
    switch (message.fleet) {
      case 'drain':
      case 'undrain':
        for (const original of this.#apps.values()) original[message.fleet]()
        break
      case 'collect':
        void this.#figures().then((snapshots) => tell({ fleet: 'figures', id: message.id, snapshots }))
        break
      case 'group':
        this.#scrapes.get(message.id)?.(message.snapshots)
        break
      case 'shutdown':
        void this.#leave(message.handover)
    }
  }

  async #leave(handover: boolean): Promise<void> {
    if (this.#leaving) return
    this.#leaving = true
    const reason = handover ? 'replaced by a new worker' : 'the group ends'
    const codes = await Promise.all([...this.#apps.keys()].map(({ fleet }) => fleet.shutdown(reason, { handover })))
    process.exit(Math.max(0, ...codes))
  }

  async #figures(): Promise<Snapshot[]> {
    const snapshots = await Promise.all([...this.#registries].map((registry) => registry.getMetricsAsJSON()))
    return (snapshots as unknown as Snapshot[]).map((snapshot) =>
      // A figure that is not a number now (the mean of nothing) has no way through JSON, and none into a sum.
      snapshot.map((figure) => ({ ...figure, values: figure.values.filter(({ value }) => Number.isFinite(value)) })),
    )
  }

  async #scrape(format: MetricsFormat): Promise<string> {
    const id = ++this.#lastScrape
    const group = new Promise<readonly Snapshot[]>((resolve) => {
      setTimeout(() => void this.#figures().then(resolve), groupTimeoutMs).unref()
      this.#scrapes.set(id, resolve)
      void tell({ fleet: 'scrape', id })
    })
    const snapshots = await group.finally(() => this.#scrapes.delete(id))
    return await scrape(promClient().AggregatorRegistry.aggregate([...snapshots]), format)
  }
}

let side: WorkerSide | undefined
const starting = new Set<FastifyInstance>()

const plugin: FastifyPluginAsync = async (app) => {
  if (process.send === undefined) return
  if (!app.hasPlugin('fleet-lifecycle')) await app.register(lifecycle)
  const { FLEET_WORKER, FLEET_READY_TIMEOUT } = readEnv()
  if (FLEET_READY_TIMEOUT !== undefined) listenOnceReady(app, FLEET_READY_TIMEOUT)
  starting.add(app)
  onceReady(app, () => {
    starting.delete(app)
    if (starting.size === 0) void tell('ready')
  })
  if (!cluster.isWorker || FLEET_WORKER === undefined) return
  side ??= new WorkerSide()
  side.join(app)
}

/**
 * Speaks with the process that started this one, when that opened a channel: `ready` for pm2's `wait_ready` and anybody
 * else who knows that message; beats, draining and figures with `fleet start`. To be registered after health and
 * metrics, on the app that listens.
 */
export const worker: FastifyPluginAsync = fp(plugin, { name: 'fleet-worker', fastify: '5.x' })
export default worker
