import { defaultPool, isPoolName } from '../../base/pool-name.ts'
import type { LifecycleState, Peer } from '../../instance/identity.ts'
import { type FleetKeys, signatureLength } from './fleet-keys.ts'

/**
 * Figures that change constantly, in the order in which they are stored. New ones are appended, because instances of other
 * versions read the first ones. `degraded` is a number with a bit for each of the instance's first 50 checks.
 */
const figures = ['rps', 'p95', 'eventLoopUtilization', 'memory', 'errorRate', 'degraded'] as const
export const noFigures: Figures = { rps: 0, p95: 0, eventLoopUtilization: 0, memory: 0, errorRate: 0, degraded: 0 }

export type Facts = Omit<Peer, 'lastSeen' | (typeof figures)[number]>
export type Figures = Record<(typeof figures)[number], number>

const maxChecks = 50
const nameOf = (check: string): string => (check.endsWith('!') ? check.slice(0, -1) : check)

/** A number, because instances of earlier versions reject figures of another type. */
const bitsOf = (checks: readonly string[], names: readonly string[]): number =>
  checks.slice(0, maxChecks).reduce((sum, check, i) => (names.includes(nameOf(check)) ? sum + 2 ** i : sum), 0)
/** Names of the checks whose bits are set. */
export const namesOf = (checks: readonly string[], bits: number): string[] =>
  bits === 0
    ? []
    : checks
        .slice(0, maxChecks)
        .map(nameOf)
        .filter((_, i) => Math.floor(bits / 2 ** i) % 2 === 1)

/** Verified facts of an instance. */
export interface VerifiedFacts {
  readonly facts: Facts
  readonly boot: string
  /** Unix time in ms, by the clock of the instance. */
  readonly signedAt: number
}

/** Why an entry is ignored; the label values of the metric. */
export const entryRejections = ['unsigned', 'signature', 'stale', 'malformed'] as const
export type EntryRejection = (typeof entryRejections)[number]

/** An instance signs its facts again after this time, ms. */
const resignMs = 300_000
/** Validity of a signature, ms. An old entry that is written back later is rejected. */
export const validMs = 900_000
/** Tolerated clock difference of an instance that is ahead, ms. */
const aheadMs = 300_000

const factsEnd = new RegExp(`,"signedAt":(\\d{13,15}),"mac":"([\\w-]{${signatureLength}})"}$`)
const loadEnd = new RegExp(`,(\\d{13,15}),"([\\w-]{${signatureLength}})"]$`)
/** `BOOT JSON` */
const stored = /^(\S{1,64}) (\{.*)$/s

const isFresh = (signedAt: number): boolean => {
  const age = Date.now() - signedAt
  return age < validMs && age > -aheadMs
}

/**
 * Signs and verifies entries of the registry, because other applications may write to this Redis. Facts are a JSON object and
 * figures a JSON list, each followed by its time and a signature that is bound to the process.
 */
export class SignedEntries {
  readonly #keys: FleetKeys
  #last:
    | { readonly json: string; readonly text: string; readonly signedAt: number; readonly generation: number }
    | undefined

  constructor(keys: FleetKeys) {
    this.#keys = keys
  }

  get generation(): number {
    return this.#keys.generation
  }

  /**
   * The entry of an instance. The text of the facts is the same until a fact changes.
   *
   * @param anew sign the facts again in any case
   */
  seal(boot: string, peer: Peer, anew = false): { facts: string; load: string } {
    const now = Date.now()
    const facts = { ...peer } as Record<string, unknown>
    for (const name of ['lastSeen', ...figures]) delete facts[name]
    if (anew) this.#last = undefined
    return { facts: this.#facts(boot, peer.id, JSON.stringify(facts), now), load: this.#load(boot, peer, now) }
  }

  #facts(boot: string, id: string, json: string, now: number): string {
    const { generation } = this.#keys
    const last = this.#last
    const isSame = last?.json === json && last.generation === generation
    if (isSame && Math.abs(now - last.signedAt) < resignMs) return last.text
    // Rises even if the clock is set back, because the later of two texts counts.
    const signedAt = Math.max(now, (last?.signedAt ?? 0) + 1)
    const signed = `${json.slice(0, -1)},"signedAt":${signedAt}`
    const text = `${signed},"mac":"${this.#keys.sign('facts', id, boot, signed)}"}`
    this.#last = { json, text, signedAt, generation }
    return text
  }

  #load(boot: string, peer: Peer, now: number): string {
    const values = { ...peer, degraded: bitsOf(peer.checks ?? [], peer.degraded ?? []) }
    const signed = `[${figures.map((name) => Number(values[name]) || 0).join()},${now}`
    return `${signed},"${this.#keys.sign('load', peer.id, boot, signed)}"]`
  }

  /** @param text `boot facts`, as stored */
  open(id: string, text: string): VerifiedFacts | EntryRejection {
    const [, boot, json] = stored.exec(text) ?? []
    const end = json === undefined ? undefined : factsEnd.exec(json.slice(-128))
    if (boot === undefined || json === undefined || !end) return 'unsigned'
    const [tail, time, signature] = end as unknown as [string, string, string]
    const signed = `${json.slice(0, json.length - tail.length)},"signedAt":${time}`
    if (!this.#keys.verify(signature, 'facts', id, boot, signed)) return 'signature'
    const signedAt = Number(time)
    if (!isFresh(signedAt)) return 'stale'
    const facts = factsOf(id, `${json.slice(0, json.length - tail.length)}}`)
    return facts ? { facts, boot, signedAt } : 'malformed'
  }

  openLoad(id: string, boot: string, text: string): Figures | EntryRejection {
    const end = loadEnd.exec(text.slice(-128))
    if (!end) return 'unsigned'
    const [tail, time, signature] = end as unknown as [string, string, string]
    const values = text.slice(0, text.length - tail.length)
    if (!this.#keys.verify(signature, 'load', id, boot, `${values},${time}`)) return 'signature'
    if (!isFresh(Number(time))) return 'stale'
    return figuresOf(values)
  }
}

const states: ReadonlySet<LifecycleState> = new Set(['starting', 'serving', 'draining', 'closed'])
const isText = (value: unknown): value is string => typeof value === 'string' && value.length > 0 && value.length <= 255
const isNames = (value: unknown): boolean => Array.isArray(value) && value.every((name) => typeof name === 'string')
const isWhole = (value: unknown, min: number, max: number): boolean =>
  Number.isInteger(value) && (value as number) >= min && (value as number) <= max

/** The writer may be of another version: checks the members that readers need. */
function factsOf(id: string, json: string): Facts | undefined {
  const facts = parsed(json) as Facts | undefined
  if (typeof facts !== 'object' || facts === null) return undefined
  // An instance of an earlier version has no pool and names no checks.
  const { host, pid, port, weight, state, version, color, startedAt, failing, region, zone } = facts
  const { pool = defaultPool, checks = [] } = facts
  const isValid =
    facts.id === id &&
    isText(host) &&
    !/[\s/@?#\\]/.test(host) &&
    [version, color, startedAt].every(isText) &&
    [region, zone].every((text) => text === undefined || isText(text)) &&
    isWhole(pid, 0, Number.MAX_SAFE_INTEGER) &&
    (port === undefined || isWhole(port, 1, 65_535)) &&
    isWhole(weight, 0, 1000) &&
    isText(pool) &&
    isPoolName(pool) &&
    states.has(state) &&
    isNames(failing) &&
    isNames(checks)
  return isValid ? { ...facts, pool, checks } : undefined
}

function figuresOf(open: string): Figures | EntryRejection {
  const values = parsed(`${open}]`)
  if (!Array.isArray(values) || !values.every((value) => Number.isFinite(value))) return 'malformed'
  return Object.fromEntries(figures.map((name, i) => [name, values[i] ?? 0])) as unknown as Figures
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}
