import { formatDuration } from './durations.ts'
import type {
  Fact,
  FrontFacts,
  FrontSource,
  InstanceFacts,
  InstanceSource,
  Place,
  Reading,
  Replacement,
  Variable,
} from './facts.ts'
import { instanceDefaults, type Term, type TimeoutRule } from './timeout-rules.ts'

/** The value of a term, for one instance and one front. */
export interface TermValue {
  readonly ms: number
  /** Absent for a value that no file sets. */
  readonly at?: Place
  /** Whose default it is. */
  readonly default?: string
  /** What was assumed. */
  readonly assumed?: string
  readonly write?: (ms: number) => Replacement
}

/** Absent: the term does not exist here. `unknown`: a file sets it to a value that is not in the files. */
export type TermValues = Readonly<Record<Term, TermValue | 'unknown' | undefined>>

export interface Assumptions {
  /** The longest request, ms. */
  readonly longestMs: number
  /** Whether `longestMs` is the user's. @default true */
  readonly longestIsKnown?: boolean
}

/** The kinds of instances that a front belongs to; without any, it is compared with all other instances. */
const pairs: Readonly<Record<FrontSource, readonly InstanceSource[]>> = {
  nginx: ['compose', 'pm2', 'systemd', 'environment', 'app'],
  haproxy: ['compose', 'pm2', 'systemd', 'environment', 'app'],
  alb: ['ecs'],
  ingress: ['kubernetes'],
  cloudflare: ['ecs'],
}

/** The instances behind a front: those of the same tool if there are any, else all. */
export function related(front: FrontFacts, instances: readonly InstanceFacts[]): readonly InstanceFacts[] {
  const candidates = instances.filter(({ source }) => source !== 'image')
  const own = candidates.filter(({ source }) => pairs[front.source].includes(source))
  return own.length > 0 ? own : candidates
}

/** What an app reports of itself, in place of defaults. */
const reported = ['DRAIN_DELAY', 'SHUTDOWN_TIMEOUT'] as const

/** The readings, in which the values of the app count for every instance whose file sets none. Of several apps it is not known which. */
export function withApp(readings: readonly Reading[]): readonly Reading[] {
  const apps = readings.filter((one) => one.role === 'instance' && one.source === 'app')
  const [app] = apps as InstanceFacts[]
  if (!app || apps.length > 1) return readings
  const known = reported.flatMap((name): [string, Variable][] => {
    const variable = app.env.get(name)
    return variable?.value === undefined ? [] : [[name, variable]]
  })
  return readings.map((one) =>
    one.role === 'instance'
      ? { ...one, keepAliveMs: one.keepAliveMs ?? app.keepAliveMs, env: new Map([...known, ...one.env]) }
      : one,
  )
}

export function valuesOf(
  instance: InstanceFacts | undefined,
  front: FrontFacts | undefined,
  { longestMs, longestIsKnown = true }: Assumptions,
): TermValues {
  const variable = (name: string, ms: number): TermValue | 'unknown' => {
    const set = instance?.env.get(name)
    if (!set || set.value === '')
      return { ms, default: 'default', assumed: `${name} has its default, ${formatDuration(ms)}` }
    const given = Number(set.value)
    return set.value === undefined || !Number.isFinite(given) ? 'unknown' : { ms: given, at: set }
  }
  const fact = (own: Fact<number> | undefined): TermValue | undefined => own && { ...own, ms: own.value, at: own }
  const { keepAliveMs: byDefault } = instanceDefaults
  return {
    idle: fact(front?.idleMs),
    notice: fact(front?.noticeMs),
    avoid: fact(front?.avoidMs),
    deregister: fact(front?.deregisterMs),
    keepAlive: fact(instance?.keepAliveMs) ?? {
      ms: byDefault,
      default: 'Fastify’s default',
      assumed: `keepAliveTimeout has Fastify’s default, ${formatDuration(byDefault)}`,
    },
    drain: variable('DRAIN_DELAY', instanceDefaults.drainMs),
    shutdown: variable('SHUTDOWN_TIMEOUT', instanceDefaults.shutdownMs),
    preStop: fact(instance?.preStopMs) ?? { ms: 0 },
    grace: fact(instance?.graceMs),
    longest: {
      ms: longestMs,
      assumed: longestIsKnown ? undefined : `the longest request takes ${formatDuration(longestMs)}, see --longest`,
    },
  }
}

/** The outcome of a rule: a term does not exist here, has an unknown value, or the comparison. */
export type Comparison =
  | { readonly outcome: 'absent' }
  | { readonly outcome: 'unknown'; readonly terms: readonly Term[] }
  | { readonly outcome: 'holds' | 'fails'; readonly terms: readonly Term[] }

export function compare({ less, more, relation, slackMs = 0 }: TimeoutRule, values: TermValues): Comparison {
  const terms = [...less, ...more]
  if (terms.some((term) => values[term] === undefined)) return { outcome: 'absent' }
  const unknown = terms.filter((term) => values[term] === 'unknown')
  if (unknown.length > 0) return { outcome: 'unknown', terms: unknown }
  const sum = (of: readonly Term[]): number => of.reduce((total, term) => total + (known(values, term)?.ms ?? 0), 0)
  const [left, right] = [sum(less) + slackMs, sum(more)]
  return { outcome: (relation === '<' ? left < right : left <= right) ? 'holds' : 'fails', terms }
}

export const known = (values: TermValues, term: Term): TermValue | undefined => {
  const value = values[term]
  return value === 'unknown' ? undefined : value
}

/** The times of one shutdown, ms: what `fleet doctor` draws. */
export interface Budget {
  readonly name: string
  readonly notice?: number
  readonly avoid?: number
  readonly preStop: number
  readonly drain: number
  readonly shutdown: number
  readonly grace?: number
  /** The terms that have a default which no file shows. */
  readonly assumed: readonly Term[]
}

/** One budget per instance that has a drain, with the slowest of its fronts. */
export function budgetsOf(readings: readonly Reading[], assumptions: Assumptions): Budget[] {
  const instances = readings.filter((one) => one.role === 'instance')
  const fronts = readings.filter((one) => one.role === 'front')
  return instances.flatMap((instance) => {
    const behind = fronts.filter((front) => related(front, instances).includes(instance))
    const slowest = behind.toSorted((a, b) => (b.noticeMs?.value ?? 0) - (a.noticeMs?.value ?? 0))[0]
    const values = valuesOf(instance, slowest, assumptions)
    const terms = (['notice', 'avoid', 'preStop', 'drain', 'shutdown', 'grace'] as const).map(
      (term) => [term, known(values, term)] as const,
    )
    const {
      drain,
      shutdown,
      preStop = 0,
      ...more
    } = Object.fromEntries(terms.map(([term, value]) => [term, value?.ms]))
    if (drain === undefined || shutdown === undefined || (more.grace === undefined && slowest === undefined)) return []
    const assumed = terms.flatMap(([term, value]) => (value?.assumed === undefined ? [] : [term]))
    return [{ name: instance.name, drain, shutdown, preStop, assumed, ...more }]
  })
}
