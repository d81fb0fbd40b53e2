import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import type { Held } from './fixtures/everything.ts'
import { type Proof, prove } from './prove.ts'
import { redisFigures } from './redis-figures.ts'
import { trend } from './trend.ts'
import { Visitor } from './visits.ts'

const program = new URL('fixtures/everything.ts', import.meta.url)
const hourMs = 3_600_000
const mib = 2 ** 20

/** How much each figure may grow per hour, if it grows at all. Fluctuations of V8's heap pages and of malloc are below. */
const mostPerHour: Record<string, number> = {
  rss: 16 * mib,
  heap: 4 * mib,
  handles: 2,
  descriptors: 2,
  memory: 2 * mib,
  // Redis keys per visit of the last minute, of which there are about five
  visit: 0.01,
  // Redis keys of caches, which visits share
  caches: 2,
}

interface Server {
  readonly app: App
  readonly url: string
  held(): Promise<Held>
}

interface Traffic {
  readonly visitors: readonly Visitor[]
  readonly failures: readonly string[]
  /** @returns how many visits began in the last `ms` */
  begunWithin(ms: number): number
  /** Fixes the pace of now. @returns the time between two visits of a visitor, ms */
  steady(): number
  stop(): Promise<void>
}

async function serve(env: Record<string, string | number>): Promise<Server> {
  const app = forkApp(program, { env, ipc: true, execArgv: ['--expose-gc'] })
  const [, url = ''] = await app.waitFor(/url (\S+)/)
  return {
    app,
    url,
    async held() {
      app.messages.length = 0
      app.send(0)
      const [message] = (await until(() => app.messages[0] && app.messages)) as { held: Held }[]
      return (message as { held: Held }).held
    },
  }
}

/**
 * Visitors at about half of what the fleet can serve: after a visit each pauses for as long as the visit took. From `steady()` on each
 * visit is due a fixed time after the one before, because what a fleet holds follows its load, and the load must not follow the machine.
 * A visit that begins late is followed by others without a pause, until the pace is that of the schedule again.
 */
function traffic(url: string, count: number): Traffic {
  const visitors = Array.from({ length: count }, () => new Visitor(url))
  const failures: string[] = []
  let running = true
  const begun: number[] = []
  let visits = 0
  let visitMs = 0
  let everyMs: number | undefined
  const loops = visitors.map(async (visitor) => {
    let due: number | undefined
    while (running) {
      const began = performance.now()
      begun.push(began)
      await visitor.visit().catch((error: Error) => void failures.push(error.message))
      const took = performance.now() - began
      visits++
      visitMs += took
      if (everyMs !== undefined) due = (due ?? began) + everyMs
      await sleep(due === undefined ? took : Math.max(0, due - performance.now()))
    }
    await visitor.close()
  })
  return {
    visitors,
    failures,
    begunWithin(ms) {
      const since = performance.now() - ms
      while (begun[0] !== undefined && begun[0] <= since) begun.shift()
      return begun.length
    },
    steady() {
      everyMs = (2 * visitMs) / visits
      return everyMs
    },
    async stop() {
      running = false
      await Promise.all(loops)
    },
  }
}

/** Fills the caches of verified cookies and tokens, which on a busy machine would go on filling while their memory is sampled. */
async function fillCaches(url: string, count: number): Promise<void> {
  const visitor = new Visitor(url)
  let left = count
  const fill = async (): Promise<void> => {
    while (left-- > 0) await visitor.signIn()
  }
  await Promise.all(Array.from({ length: 8 }, fill))
  await visitor.close()
}

/**
 * What the fleet keeps itself, whatever clients do: its registry, a key of history for every step and minute of a day, a fencing token
 * for two hours after its lock, and the log of revocations for a month after its last entry.
 */
const fleetKeys = /^fleet:(registry|history|lock|cron|jwt-revoked)\b/

const cacheKeys = /^fleet:cache\b/

/** The numbers of keys that clients left behind, which live as long as their lifetime, and of those that the clients share. */
async function clientKeys(client: Redis): Promise<{ own: number; shared: number }> {
  // A scan may name a key twice.
  const found = new Set<string>()
  for await (const keys of client.scanStream({ count: 1000 })) for (const key of keys as string[]) found.add(key)
  const all = [...found].filter((key) => !fleetKeys.test(key))
  const shared = all.filter((key) => cacheKeys.test(key)).length
  return { own: all.length - shared, shared }
}

async function withoutExpiry(client: Redis): Promise<string[]> {
  const keys = await client.keys('*')
  const expiries = await Promise.all(keys.map((key) => client.pttl(key)))
  return keys.filter((_, i) => expiries[i] === -1).sort()
}

/** Every value of a figure, by what it is a figure of. */
class Samples {
  readonly at: number[] = []
  readonly values = new Map<string, number[]>()

  add(figures: Readonly<Record<string, number>>): void {
    this.at.push(performance.now())
    for (const [name, value] of Object.entries(figures))
      this.values.set(name, [...(this.values.get(name) ?? []), value])
  }
}

const shown = (name: string, value: number): string =>
  /rss|heap|memory/.test(name) ? `${(value / mib).toFixed(2)} MiB` : value.toFixed(2)

/** @returns the figures that grow */
function growing(proof: Proof, { at, values }: Samples): string[] {
  // A slope measured over minutes says little about an hour.
  const hours = Math.min(1, ((at.at(-1) ?? 0) - (at[0] ?? 0)) / hourMs)
  return [...values].flatMap(([name, of]) => {
    if (at.length < 10) {
      proof.note(`${name} ${shown(name, of.at(-1) as number)}`)
      return []
    }
    const { slope, low, high } = trend(at, of)
    const most = mostPerHour[name.split(' ').at(-1) as string] as number
    const [now, ...slopes] = [of.at(-1) as number, slope, low, high].map((value) => shown(name, value))
    const line = `${name} ${now}, ${slopes[0]} per hour (95 %: ${slopes[1]} to ${slopes[2]})`
    proof.note(line)
    return low > 0 && slope * hours > most ? [line] : []
  })
}

const body = async (proof: Proof): Promise<void> => {
  const minutes = Number(process.env.PROVE_LONG_MINUTES ?? proof.pick(0.1, 60))
  const ttlMs = proof.pick(30_000, 60_000)
  const redis = await startRedis()
  const client = new Redis(redis.port)
  proof.t.after(() => client.disconnect())
  const secret = proof.seed.toString().padStart(40, 's')
  const env = { REDIS_URL: redis.url, SESSION_SECRET: secret, JWT_SECRET: secret, TTL_MS: ttlMs }
  const instances = await Promise.all([serve(env), serve(env)])
  const front = await serve({ UPSTREAMS: instances.map(({ url }) => url).join(), TTL_MS: ttlMs })
  const servers = { 'instance 1': instances[0], 'instance 2': instances[1], 'load balancer': front }
  const figures = async (): Promise<Record<string, number>> => {
    const all: Record<string, number> = {}
    for (const [name, server] of Object.entries(servers) as [string, Server][])
      for (const [figure, value] of Object.entries(await server.held())) all[`${name} ${figure}`] = value
    const [{ own, shared }, { memory }] = [await clientKeys(client), await redisFigures(client)]
    return { ...all, 'Redis keys': own, 'Redis keys of caches': shared, 'Redis memory': memory }
  }
  const [idle, before] = [await figures(), await withoutExpiry(client)]

  const filled = proof.pick(100, 10_500)
  await Promise.all(instances.map(({ url }) => fillCaches(url, filled)))
  const load = traffic(front.url, 4)
  proof.t.after(() => load.stop())
  // Before the first sample all lifetimes must have ended, and V8 must have optimised what it will.
  const warmUpMs = Math.max(3 * ttlMs, (minutes * 60_000) / 3)
  const samples = new Samples()
  const started = performance.now()
  const end = started + minutes * 60_000
  const begin = Math.min(started + warmUpMs, end - 2000)
  await sleep((begin - started) / 2)
  proof.note(`each visitor begins a visit every ${load.steady().toFixed(1)} ms`)
  while (performance.now() < end && load.failures.length === 0) {
    await sleep(proof.pick(500, 5000))
    if (performance.now() < begin) continue
    const { 'Redis keys': keys = 0, ...others } = await figures()
    samples.add({ ...others, 'Redis keys per visit': keys / load.begunWithin(ttlMs) })
  }
  await load.stop()
  const sum = (what: 'requests' | 'received' | 'twice'): number =>
    load.visitors.reduce((total, visitor) => total + visitor[what], 0)
  proof.count({
    requests: sum('requests'),
    failed: load.failures.length,
    twice: sum('twice'),
    messages: sum('received'),
  })
  // First, because it notes the figures.
  const up = growing(proof, samples)
  assert.deepEqual(load.failures, [])
  assert.equal(sum('twice'), 0)
  if (minutes >= 5) assert.deepEqual(up, [])

  const endless = await withoutExpiry(client)
  assert.deepEqual(endless, before, 'keys that never expire')
  // All that clients left behind goes away by itself.
  const what = proof.pick(/handles|descriptors/, /handles|descriptors|keys/)
  let left = ''
  const gone = async (): Promise<boolean> => {
    const now = await figures()
    left = Object.entries(idle)
      .filter(([name, value]) => what.test(name) && (now[name] as number) > value)
      .map(([name, value]) => `${name}: ${now[name]}, ${value} before`)
      .join()
    return left === ''
  }
  await until(gone, { timeoutMs: 4 * ttlMs + 60_000 }).catch(() => assert.fail(left))
  await Promise.all(Object.values(servers).map(({ app }) => app.stop()))
}

prove('memory, handles and keys stay level under load with every feature', 'level', body, { timeoutMs: 1.5 * hourMs })
