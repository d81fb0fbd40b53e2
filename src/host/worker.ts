import cluster from 'node:cluster'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import type { Registry } from 'prom-client'
import { ensure } from '../base/ensure.ts'
import { readEnv } from '../base/env.ts'
import { promClient } from '../base/prom-client.ts'
import { residentMemory } from '../base/resident-memory.ts'
import { lifecycle } from '../instance/lifecycle/index.ts'
import { type MetricsFormat, scrape } from '../instance/metrics/index.ts'
import { withoutMergedQuantiles } from './group-metrics.ts'
import { type FromWorker, isFleetMessage, type Snapshot, type ToWorker } from './messages.ts'
import { listenOnceReady, onceReady } from './ready.ts'

/** Interval of the heartbeats to `fleet start`, ms. */
const beatIntervalMs = 1_000
/** How long a scrape waits for the group's metrics before it returns this worker's own, ms. */
const groupTimeoutMs = 3_000

/** Sends a message to the parent process. Resolves when the message was written, or when the parent is gone. */
function send(message: FromWorker): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve())
    else resolve()
  })
}

/** The channel to `fleet start`, for all apps of this process together. */
class SupervisorChannel {
  readonly #apps = new Map<FastifyInstance, Record<'drain' | 'undrain', () => void>>()
  readonly #registries = new Set<Registry>()
  readonly #scrapes = new Map<number, (snapshots: readonly Snapshot[]) => void>()
  #lastScrape = 0
  #stopping = false

  readonly #listener = (message: unknown): void => {
    if (isFleetMessage<ToWorker>(message)) this.#onMessage(message)
  }

  constructor() {
    setInterval(() => void send({ fleet: 'beat', rss: residentMemory() }), beatIntervalMs).unref()
    void send({ fleet: 'hello' })
  }

  join(app: FastifyInstance): void {
    const { drain, undrain } = app.fleet
    if (this.#apps.size === 0) process.on('message', this.#listener)
    this.#apps.set(app, { drain, undrain })
    // A load balancer sees one port for all workers, so an operator always drains the whole group.
    app.fleet.drain = () => {
      drain()
      void send({ fleet: 'drain' })
    }
    app.fleet.undrain = () => {
      undrain()
      void send({ fleet: 'undrain' })
    }
    if (app.hasPlugin('fleet-metrics')) {
      this.#registries.add(app.metrics)
      app.metricsSource = { text: (format) => this.#scrape(format) }
    }
    app.addHook('onClose', async () => {
      await send({ fleet: 'figures', snapshots: await this.#snapshots() })
      this.#apps.delete(app)
      // A listener on the channel keeps the process alive; without apps the process should be able to exit.
      if (this.#apps.size === 0) process.off('message', this.#listener)
    })
  }

  #onMessage(message: ToWorker): void {
    switch (message.fleet) {
      case 'drain':
      case 'undrain':
        for (const original of this.#apps.values()) original[message.fleet]()
        break
      case 'collect':
        void this.#snapshots().then((snapshots) => send({ fleet: 'figures', id: message.id, snapshots }))
        break
      case 'ended':
        this.#record(message.instance, message.how)
        break
      case 'group':
        this.#scrapes.get(message.id)?.(message.snapshots)
        break
      case 'shutdown':
        void this.#shutDown(message.handover)
    }
  }

  #record(instance: string, how: string): void {
    const [app] = this.#apps.keys()
    const { history } = app?.fleet ?? {}
    // While Redis is down, peers record the loss later.
    history?.post({ kind: 'killed', instance, text: how }).catch(() => {})
  }

  async #shutDown(handover: boolean): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    const reason = handover ? 'replaced by a new worker' : 'the group is stopping'
    const codes = await Promise.all([...this.#apps.keys()].map(({ fleet }) => fleet.shutdown(reason, { handover })))
    process.exit(Math.max(0, ...codes))
  }

  async #snapshots(): Promise<Snapshot[]> {
    const snapshots = await Promise.all([...this.#registries].map((registry) => registry.getMetricsAsJSON()))
    return (snapshots as unknown as Snapshot[]).map((snapshot) =>
      // NaN (such as the mean of no values) cannot be sent as JSON or added up.
      snapshot.map((metric) => ({ ...metric, values: metric.values.filter(({ value }) => Number.isFinite(value)) })),
    )
  }

  async #scrape(format: MetricsFormat): Promise<string> {
    const id = ++this.#lastScrape
    const group = new Promise<readonly Snapshot[]>((resolve) => {
      setTimeout(() => void this.#snapshots().then(resolve), groupTimeoutMs).unref()
      this.#scrapes.set(id, resolve)
      void send({ fleet: 'scrape', id })
    })
    const snapshots = await group.finally(() => this.#scrapes.delete(id))
    return await scrape(promClient().AggregatorRegistry.aggregate([...withoutMergedQuantiles(snapshots)]), format)
  }
}

let channel: SupervisorChannel | undefined
const starting = new Set<FastifyInstance>()

const plugin: FastifyPluginAsync = async (app) => {
  if (process.send === undefined) return
  await ensure(app, lifecycle)
  const { FLEET_WORKER, FLEET_READY_TIMEOUT } = readEnv()
  if (FLEET_READY_TIMEOUT !== undefined) listenOnceReady(app, FLEET_READY_TIMEOUT)
  starting.add(app)
  onceReady(app, () => {
    starting.delete(app)
    if (starting.size === 0) void send('ready')
  })
  if (!cluster.isWorker || FLEET_WORKER === undefined) return
  channel ??= new SupervisorChannel()
  channel.join(app)
}

/**
 * Communicates with the parent process if it opened a message channel: sends `ready` (pm2's `wait_ready`), and exchanges
 * heartbeats, drain commands and metrics with `fleet start`. Register it after health and metrics, on the app that listens.
 */
export const worker: FastifyPluginAsync = fp(plugin, { name: 'fleet-worker', fastify: '5.x' })
export default worker
