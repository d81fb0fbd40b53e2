import { channel } from 'node:diagnostics_channel'
import type { FastifyInstance } from 'fastify'
import type { Peer } from '../../instance/identity.ts'
import type { LastEntry, NewEvent } from './events.ts'
import type { Outbox } from './outbox.ts'

/** One process: an instance's id may be used again. */
export const processOf = ({ id, startedAt }: Pick<Peer, 'id' | 'startedAt'>): string => `${id} ${startedAt}`

export const lastEntryOf = ({ host, port, zone, state, startedAt, lastSeen }: Peer): LastEntry => ({
  host,
  port: port ?? null,
  zone: zone ?? null,
  state,
  startedAt,
  lastSeen: Date.parse(lastSeen),
})

const seconds = (ms: number): string => `${Math.round(ms / 100) / 10} s`
/** Interval at which an instance that serves looks whether it is ready for the first time, ms. */
const readyEveryMs = 250
/** Shortest time between two reports that this instance sheds requests, ms. */
const limitEveryMs = 60_000

/** Records what happens to this instance. */
export class OwnEvents {
  readonly #app: FastifyInstance
  readonly #outbox: Outbox
  readonly #started: () => void
  readonly #down = new Set<string>()
  readonly #unsubscribe: (() => void)[] = []
  #waiting: NodeJS.Timeout | undefined
  #limitAt = Number.NEGATIVE_INFINITY
  #hasStarted = false

  /** @param started called once, when the instance starts to serve */
  constructor(app: FastifyInstance, outbox: Outbox, started: () => void) {
    this.#app = app
    this.#outbox = outbox
    this.#started = started
    app.fleet.onState((state) => {
      if (state === 'serving') this.#serving()
      else if (!this.#hasStarted) return
      else if (state === 'draining') this.#record({ kind: 'draining', text: this.#drainReason() })
      else if (state === 'closed') this.#stopped()
    })
    this.#subscribe('fleet:check', (message) => this.#check(message as CheckMessage))
    this.#subscribe('fleet:leader', (message) => this.#leads(message as LeaderMessage))
  }

  /** The event of this instance when its entry had expired although it runs. */
  back(): NewEvent {
    return this.#event({ kind: 'ready', text: 'back: its entry had expired' })
  }

  /** @param shed number of requests that were shed in the last step */
  shed(shed: number, stepMs: number): void {
    const now = performance.now()
    if (shed === 0 || now - this.#limitAt < limitEveryMs) return
    this.#limitAt = now
    const text = `sheds load: ${shed} requests in ${seconds(stepMs)}`
    this.#outbox.add(this.#event({ kind: 'limit-hit', text }), { limit: 'limit-hit' })
  }

  close(): void {
    clearInterval(this.#waiting)
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
  }

  #subscribe(name: string, listener: (message: unknown) => void): void {
    const source = channel(name)
    const { id } = this.#app.fleet.instance
    const own = (message: unknown): void => {
      if ((message as { instance?: unknown }).instance === id) listener(message)
    }
    source.subscribe(own)
    this.#unsubscribe.push(() => source.unsubscribe(own))
  }

  #event(event: Pick<NewEvent, 'kind' | 'text' | 'entry'>): NewEvent {
    const { id, version, pool } = this.#app.fleet.instance
    return { ...event, instance: id, version, pool }
  }

  #record(event: Pick<NewEvent, 'kind' | 'text'>): void {
    this.#outbox.add(this.#event(event))
  }

  #serving(): void {
    if (this.#hasStarted) {
      this.#record({ kind: 'undrained', text: 'back in rotation' })
      return
    }
    this.#hasStarted = true
    const { version, pid, host } = this.#app.fleet.instance
    this.#record({ kind: 'started', text: `version ${version}, process ${pid} on ${host}` })
    this.#started()
    // A first pass of a check is not reported.
    this.#waiting = setInterval(() => this.#ready(), readyEveryMs).unref()
    this.#ready()
  }

  #ready(): void {
    const { fleet } = this.#app
    if (fleet.state === 'serving' && fleet.ready === false) return
    clearInterval(this.#waiting)
    const sinceStartMs = Date.now() - Date.parse(fleet.instance.startedAt)
    if (fleet.state === 'serving') this.#record({ kind: 'ready', text: `after ${seconds(sinceStartMs)}` })
  }

  #drainReason(): string {
    const { stopping } = this.#app.fleet
    return stopping ? `${stopping.reason}: shuts down` : 'out of rotation, still serving'
  }

  #stopped(): void {
    clearInterval(this.#waiting)
    const { fleet } = this.#app
    const { stopping, fatal } = fleet
    const cause = [stopping?.reason ?? 'closed', fatal?.message].filter(Boolean).join(': ')
    const text = stopping ? `${cause}, drained in ${seconds(performance.now() - stopping.since)}` : cause
    const self = fleet.self()
    const entry = lastEntryOf({ ...self, state: stopping ? 'draining' : 'closed' })
    this.#outbox.add(this.#event({ kind: 'stopped', text, entry }), { process: processOf(self) })
  }

  #check({ check, status, critical, error }: CheckMessage): void {
    if (status === 'degraded' || (status === 'up' && !this.#down.delete(check))) return
    const isDown = status === 'down'
    if (isDown) this.#down.add(check)
    const kind = isDown ? 'check-failed' : 'check-recovered'
    const name = critical ? `${check} (critical)` : check
    const text = isDown && error ? `${name}: ${error}` : name
    this.#outbox.add(this.#event({ kind, text }), { limit: `${kind} ${check}` })
  }

  #leads({ job }: LeaderMessage): void {
    this.#outbox.add(this.#event({ kind: 'leader-changed', text: `leads ${job}` }), { limit: `leader-changed ${job}` })
  }
}

interface CheckMessage {
  readonly check: string
  readonly status: 'up' | 'degraded' | 'down'
  readonly critical: boolean
  readonly error: string | null
}

interface LeaderMessage {
  readonly job: string
}
