import { channel } from 'node:diagnostics_channel'
import type { FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import type { Peer } from '../instance/identity.ts'
import { type RedisClient, redisOf } from '../state/redis/index.ts'

export type RedisState = 'ok' | 'degraded' | 'down' | 'none'

/** Redis as this instance sees it; `null` what it does not report, e.g. while it is down. */
export interface RedisReport {
  readonly state: RedisState
  readonly role: string | null
  readonly version: string | null
  readonly usedMemory: number | null
  /** 0: no limit. */
  readonly maxMemory: number | null
  readonly policy: string | null
  readonly evictedKeys: number | null
  readonly clients: number | null
  /** Share of reads that found their key, 0 to 1. */
  readonly hitRate: number | null
  readonly latencyMs: number | null
}

export interface CheckReport {
  readonly name: string
  readonly critical: boolean
  readonly failing: readonly string[]
  /** Number of instances that have the check. */
  readonly instances: number
}

/** A message when a check fails or passes again. Health publishes it. */
const checks = channel('fleet:check')
/** How long a report of Redis is valid, ms. */
const reportMs = 5_000
/** Largest number of checks that are reported. */
const maxChecks = 200

/** What this instance knows of its Redis, from the health check and on request from INFO, never by a timer. */
export class RedisWatch {
  readonly #app: FastifyInstance
  readonly #client: RedisClient | null
  #state: RedisState
  #since = Date.now()
  #report: { readonly until: number; readonly report: Promise<Omit<RedisReport, 'state'>> } | undefined

  constructor(app: FastifyInstance) {
    this.#app = app
    this.#client = redisOf(app)
    this.#state = this.#read()
    const changed = (): void => this.#update()
    checks.subscribe(changed)
    app.addHook('onClose', async () => void checks.unsubscribe(changed))
  }

  /** The state, and since when it is so, Unix time in ms by the clock of this instance. */
  get state(): { readonly state: RedisState; readonly since: number } {
    this.#update()
    return { state: this.#state, since: this.#since }
  }

  #update(): void {
    const state = this.#read()
    if (state !== this.#state) this.#since = Date.now()
    this.#state = state
  }

  async report(): Promise<RedisReport | null> {
    const client = this.#client
    if (!client) return null
    const now = performance.now()
    if (!this.#report || now > this.#report.until)
      this.#report = { until: now + reportMs, report: inspect(client).catch(() => unknown) }
    const report = await this.#report.report
    return { state: this.state.state, ...report }
  }

  #read(): RedisState {
    if (!this.#client) return 'none'
    const { health } = this.#app.hasDecorator('health') ? this.#app : { health: undefined }
    const status = health?.reports.redis?.status
    if (status === 'up') return 'ok'
    if (status === 'degraded' || status === 'down') return status
    return this.#client.status === 'ready' ? 'ok' : 'down'
  }
}

const unknown: Omit<RedisReport, 'state'> = {
  ...{ role: null, version: null, usedMemory: null, maxMemory: null, policy: null },
  ...{ evictedKeys: null, clients: null, hitRate: null, latencyMs: null },
}

/** Of a Cluster, the sums of all primaries. */
async function inspect(client: RedisClient): Promise<Omit<RedisReport, 'state'>> {
  const { nodes } = client as { nodes?: (role: 'master') => Redis[] }
  const primaries = nodes ? nodes.call(client, 'master') : [client as Redis]
  const since = performance.now()
  await client.ping()
  const latencyMs = Math.round((performance.now() - since) * 10) / 10
  const infos = await Promise.all(
    primaries.map((node) =>
      node.info().catch((error: Error) => {
        // The user may not run INFO.
        if (error.message.startsWith('NOPERM')) return ''
        throw error
      }),
    ),
  )
  const text = (name: string): string | null =>
    new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(infos[0] ?? '')?.[1]?.slice(0, 64) ?? null
  const sum = (name: string): number | null => {
    const values = infos.flatMap((info) => new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? [])
    return values.length === 0 ? null : values.reduce((total, value) => total + Number(value), 0)
  }
  const [hits, misses] = [sum('keyspace_hits') ?? 0, sum('keyspace_misses') ?? 0]
  return {
    role: nodes ? 'cluster' : text('role'),
    version: text('redis_version'),
    usedMemory: sum('used_memory'),
    maxMemory: sum('maxmemory'),
    policy: text('maxmemory_policy'),
    evictedKeys: sum('evicted_keys'),
    clients: sum('connected_clients'),
    hitRate: hits + misses === 0 ? null : Math.round((hits / (hits + misses)) * 10_000) / 10_000,
    latencyMs,
  }
}

/** The checks of all instances, from their entries in the registry, failing ones first. */
export function checksOf(peers: readonly Peer[]): CheckReport[] {
  const checks = new Map<string, { name: string; critical: boolean; failing: string[]; instances: number }>()
  for (const { id, checks: names, failing, degraded } of peers) {
    for (const each of names) {
      const critical = each.endsWith('!')
      const name = critical ? each.slice(0, -1) : each
      const check = checks.get(name) ?? { name, critical, failing: [], instances: 0 }
      checks.set(name, check)
      check.critical ||= critical
      check.instances++
      if (failing.includes(name) || degraded.includes(name)) check.failing.push(id)
    }
  }
  const all = [...checks.values()].sort((a, b) => b.failing.length - a.failing.length || (a.name < b.name ? -1 : 1))
  return all.slice(0, maxChecks)
}
