// The state of the fleet, and what follows from it: one sentence with a tone, totals, and the guard of the last serving instance.

/** Until the first response. */
let fleet

/** Times of older versions are ISO 8601, later ones are milliseconds. */
const toTime = (value) => (typeof value === 'string' ? Date.parse(value) : value)

/** Reads the response of `/state`: rows by the names in `fields`, or the objects of instances older than this page. */
function readState({ servedBy, answeredBy, at, redis, fields, instances, departed }) {
  const read = (entry) => {
    const values = Array.isArray(entry) ? Object.fromEntries(fields.map((name, i) => [name, entry[i]])) : entry
    values.loop ??= values.eventLoopUtilization
    values.failing ??= []
    values.startedAt = toTime(values.startedAt)
    values.lastSeen = toTime(values.lastSeen)
    return values
  }
  const all = instances.map(read)
  return {
    servedBy: servedBy ?? answeredBy,
    // The clock of this machine may differ, so times are compared with the fleet's own.
    at: at ?? Math.max(...all.map((instance) => instance.lastSeen)),
    receivedAt: performance.now(),
    redis: redis ?? { state: 'none' },
    instances: inOrder(all),
    departed: departed ?? [],
  }
}

/** The fleet records a lost instance some seconds after it has vanished. Until then this page says that it is gone. */
const unexplainedMs = 10_000
function withVanished(next, before) {
  const listed = new Set([...next.instances, ...next.departed].map(({ id }) => id))
  const vanished = before.instances.filter(({ id }) => !listed.has(id))
  const unexplained = before.departed.filter(
    ({ id, reason, at }) => reason === 'gone' && !listed.has(id) && next.at - at < unexplainedMs,
  )
  const gone = vanished.map((instance) => ({ ...instance, reason: 'gone', at: next.at }))
  return { ...next, departed: [...gone, ...unexplained, ...next.departed] }
}

let order = new Map()
/** Sorts by id, and compares names again only if there are new ones. */
function inOrder(all) {
  if (all.length !== order.size || !all.every(({ id }) => order.has(id))) {
    order = new Map(
      all
        .map(({ id }) => id)
        .sort(byName)
        .map((id, rank) => [id, rank]),
    )
  }
  return all.sort((a, b) => order.get(a.id) - order.get(b.id))
}

/** The fleet's clock. */
const fleetNow = () => (fleet ? fleet.at + performance.now() - fleet.receivedAt : Date.now())

/** Without Redis the list is that of before, so silence says nothing. */
const silentMs = 6_000
const silence = (instance) => {
  const ms = fleet.at - instance.lastSeen
  return ms > silentMs && (fleet.redis.state === 'ok' || fleet.redis.state === 'none') ? ms : 0
}

const replacementMs = 15 * 60_000
/** Instances that ended unexpectedly within 15 minutes and that no later started one replaces. */
function missingOf({ instances, departed, at }) {
  const present = new Set(instances.map(({ id }) => id))
  const started = instances.map(({ startedAt }) => startedAt)
  const gone = departed.filter(
    ({ reason, id, at: left }) => reason !== 'stopped' && at - left < replacementMs && !present.has(id),
  )
  return gone
    .sort((a, b) => a.at - b.at)
    .filter((departure) => {
      const replacement = started.findIndex((time) => time > departure.at)
      if (replacement >= 0) started.splice(replacement, 1)
      return replacement < 0
    })
}

const countBy = (all, keyOf) => {
  const counts = new Map()
  for (const one of all) counts.set(keyOf(one), (counts.get(keyOf(one)) ?? 0) + 1)
  return counts
}
const sumOf = (all, key) => all.reduce((sum, one) => sum + (one[key] ?? 0), 0)
const maxOf = (all, key) => all.reduce((max, one) => Math.max(max, one[key] ?? 0), 0)

/** The figures of some instances as one. */
function totalsOf(all) {
  const rps = sumOf(all, 'rps')
  const known = all.some(({ errorRate }) => errorRate !== undefined)
  const failed = all.reduce((sum, one) => sum + (one.errorRate ?? 0) * one.rps, 0)
  return {
    serving: all.filter(({ state }) => state === 'serving').length,
    rps,
    errorRate: known ? (rps > 0 ? failed / rps : 0) : undefined,
    p95: maxOf(all, 'p95'),
    loop: maxOf(all, 'loop'),
    memory: sumOf(all, 'memory'),
  }
}

/**
 * What is wrong, in one sentence. The tone is `bad` if nothing serves, less than half serves, or Redis is down; `warn` if
 * something else needs attention; else `good`.
 */
function summarise({ instances, redis, at, ...others }) {
  const missing = missingOf({ instances, at, ...others })
  const states = countBy(instances, ({ state }) => state)
  const serving = states.get('serving') ?? 0
  const total = instances.length + missing.length
  const parts = [`${format.count(serving)} of ${format.count(total)} serving`]
  for (const state of ['starting', 'draining', 'closed']) {
    if (states.has(state)) parts.push(`${format.count(states.get(state))} ${state}`)
  }
  if (missing.length === 1) {
    parts.push(`${missing[0].id} ${missing[0].reason} ${format.duration(at - missing[0].at)} ago`)
  } else if (missing.length > 0) {
    parts.push(`${missing.length} ended unexpectedly, the last ${format.duration(at - missing.at(-1).at)} ago`)
  }
  for (const [check, count] of countBy(
    instances.flatMap(({ failing }) => failing),
    String,
  )) {
    parts.push(`check ${check} fails on ${format.plural(count, 'instance')}`)
  }
  const silent = instances.filter(silence)
  if (silent.length === 1) parts.push(`${silent[0].id} silent for ${format.duration(silence(silent[0]))}`)
  else if (silent.length > 0) parts.push(`${format.count(silent.length)} silent`)
  const badRedis = redis.state === 'degraded' || redis.state === 'down'
  if (badRedis) {
    parts.push(`Redis ${redis.state}${redis.since ? ` for ${format.duration(at - redis.since)}` : ''}`)
    if (redis.state === 'down') parts.push('instances as last known')
  }
  if (total === 0) return { text: 'No instance is known', short: 'no instance', tone: 'bad', serving, total }
  const tone =
    serving === 0 || serving * 2 < total || redis.state === 'down' ? 'bad' : parts.length > 1 ? 'warn' : 'good'
  return { text: parts.join('; '), short: `${serving} of ${total}`, tone, serving, total }
}

/** Why an operator should think twice before draining this instance, or `undefined`. */
function whyKeep({ id, state, pool }) {
  const others = fleet.instances.filter((other) => other.id !== id && other.state === 'serving')
  if (state !== 'serving') return undefined
  if (others.length === 0) return `${id} is the last serving instance. Without it every request fails.`
  if (pool !== undefined && !others.some((other) => other.pool === pool)) {
    return `${id} is the last serving instance of pool ${pool}. Without it every request to this pool fails.`
  }
  return undefined
}

const addressOf = ({ host, port }) => `${host ?? ''}${port ? `:${port}` : ''}`
const versionOf = ({ version, color }) => (color && color !== 'none' ? `${version} ${color}` : (version ?? ''))

/** The tone of a state of an instance. Unknown ones are shown as they are, without a colour. */
const tones = {
  serving: 'good',
  starting: 'warn',
  draining: 'warn',
  closed: 'bad',
  gone: 'bad',
  killed: 'bad',
  lost: 'bad',
}
const toneOf = (state) => tones[state] ?? 'none'
