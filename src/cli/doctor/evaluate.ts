import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { formatDuration } from './durations.ts'
import type { Fact, FrontFacts, FrontSource, InstanceFacts, InstanceSource, Place, Reading } from './facts.ts'
import { type RuleCode, rules } from './rules.ts'
import { weakness } from './secrets.ts'
import { instanceDefaults, type Term, type TimeoutRule, timeoutRules } from './timeout-rules.ts'

export interface Finding extends Place {
  readonly code: string
  readonly message: string
  readonly fix: string
}

export interface Assumptions {
  /** The longest request, ms. */
  readonly longestMs: number
}

/** Applies every rule to the readings. Sorted by file and line; a rule reports a line or an object once. */
export function evaluate(readings: readonly Reading[], assumptions: Assumptions): Finding[] {
  const of = <R extends Reading['role']>(role: R): Extract<Reading, { role: R }>[] =>
    readings.filter((reading) => reading.role === role) as Extract<Reading, { role: R }>[]
  const instances = of('instance')
  const fronts = of('front')
  const findings = [
    ...of('violation').map((place) => found(place.code, place, place.detail)),
    ...instances.flatMap((instance) => checkInstance(instance, fronts, instances)),
    ...fronts.flatMap(({ readiness }) =>
      wrong(readiness, /\/ready$/) ? [found('DOCTOR_READINESS_PATH', readiness, readiness.value)] : [],
    ),
    ...timeoutRules.flatMap((rule) => applyTimeoutRule(rule, fronts, instances, assumptions)),
  ]
  const seen = new Set<string>()
  return findings
    .filter(({ code, file, line, address }) => {
      const key = `${code} ${file}:${line} ${address}`
      return !seen.has(key) && seen.add(key)
    })
    .sort((a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.code.localeCompare(b.code))
}

export const found = (code: RuleCode, { file, line, address }: Place, detail?: string): Finding => {
  const { problem, fix } = rules[code]
  return { code, file, line, address, message: detail ? `${problem} (${detail})` : problem, fix }
}

const wrong = (fact: Fact<string> | undefined, right: RegExp): fact is Fact<string> =>
  fact !== undefined && !right.test(fact.value)

function checkInstance(
  instance: InstanceFacts,
  fronts: readonly FrontFacts[],
  all: readonly InstanceFacts[],
): Finding[] {
  const { env, unseen, copies, command, readiness, liveness } = instance
  const findings: Finding[] = []
  for (const [name, secret] of env) {
    const why = secret.value && weakness(name, secret.value)
    if (why) findings.push(found('DOCTOR_SECRET_WEAK', secret, `${name}: ${why}`))
  }
  if (wrong(readiness, /\/ready$/)) findings.push(found('DOCTOR_READINESS_PATH', readiness, readiness.value))
  if (wrong(liveness, /\/(?:live|alive)$/)) findings.push(found('DOCTOR_LIVENESS_PATH', liveness, liveness.value))
  if (command && losesSignals(command.value))
    findings.push(found('DOCTOR_SIGNALS', command, command.value.slice(0, 60)))

  const many = (copies?.value ?? 1) > 1
  const id = env.get('INSTANCE_ID')
  if (many && id?.value) findings.push(found('DOCTOR_INSTANCE_ID', id, id.value))
  const allowed = env.get('FLEET_ALLOW_MEMORY')
  const redis = [...env.keys()].some((name) => /^REDIS_(?:URL(?:_FILE)?|HOST|SENTINELS|CLUSTER)$/.test(name))
  if (many && !redis && allowed && /^(?:1|true)$/i.test(allowed.value ?? ''))
    findings.push(found('DOCTOR_STATE_IN_MEMORY', allowed))
  else if (many && !redis && unseen === 'none') findings.push(found('DOCTOR_STATE_IN_MEMORY', copies ?? instance))

  const trusted = env.get('TRUST_PROXY')
  if (trusted?.value?.split(',').some((entry) => /^(?:\*|true|all|0\.0\.0\.0\/0|::\/0)$/i.test(entry.trim())))
    findings.push(found('DOCTOR_TRUST_EVERYONE', trusted, trusted.value))
  if (!trusted && isComplete(instance, all) && fronts.some((front) => related(front, all).includes(instance)))
    findings.push(found('DOCTOR_TRUST_MISSING', instance, instance.name))
  return [...findings, ...badValues(instance)]
}

/** Whether an absent variable is unset. A `.env` beside a compose file only supplies values for it. */
const isComplete = ({ source, unseen, env }: InstanceFacts, all: readonly InstanceFacts[]): boolean =>
  source === 'environment' ? !all.some((other) => other.source === 'compose') : unseen !== 'any' && env.size > 0

const losesSignals = (command: string): boolean =>
  /^(?:\S*\/)?(?:npm|yarn|pnpm|npx)\b/.test(command) ||
  (/^(?:\S*\/)?(?:ba|da|a)?sh\s+-c\s/.test(command) && !/\bexec\s/.test(command))

/** The values that the instance would reject at startup. */
function badValues({ env }: InstanceFacts): Finding[] {
  return [...env].flatMap(([name, variable]) => {
    // Files of secrets belong to another machine.
    if (variable.value === undefined || name.endsWith('_FILE')) return []
    try {
      // Some values are validated on access.
      Object.values(readEnv({ [name]: variable.value }))
      return []
    } catch (error) {
      if (!(error instanceof FleetError)) throw error
      return [found('DOCTOR_VALUE', variable, error.message.replace(/^[^:]*: /, ''))]
    }
  })
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
function related(front: FrontFacts, instances: readonly InstanceFacts[]): readonly InstanceFacts[] {
  const candidates = instances.filter(({ source }) => source !== 'image')
  const own = candidates.filter(({ source }) => pairs[front.source].includes(source))
  return own.length > 0 ? own : candidates
}

/** The terms of fronts, then the grace period: a finding is reported where the first of them is set. */
const reportedAt: readonly Term[] = ['idle', 'notice', 'avoid', 'deregister', 'grace']
const isOfFront = (term: Term): boolean => term !== 'grace' && reportedAt.includes(term)

function applyTimeoutRule(
  rule: TimeoutRule,
  fronts: readonly FrontFacts[],
  instances: readonly InstanceFacts[],
  { longestMs }: Assumptions,
): Finding[] {
  if (![...rule.less, ...rule.more].some(isOfFront))
    return instances.flatMap((instance) => compare(rule, valuesOf(instance, undefined, longestMs)))
  return fronts.flatMap((front) => {
    const behind = related(front, instances)
    const compared: readonly (InstanceFacts | undefined)[] = behind.length > 0 ? behind : [undefined]
    return compared.flatMap((instance) => compare(rule, valuesOf(instance, front, longestMs)))
  })
}

interface TermValue {
  readonly ms: number
  /** Absent for a default. */
  readonly at?: Place
}
/** `undefined`: not known, or absent. */
type TermValues = Readonly<Record<Term, TermValue | undefined>>

function valuesOf(instance: InstanceFacts | undefined, front: FrontFacts | undefined, longestMs: number): TermValues {
  const variable = (name: string, byDefault: number): TermValue | undefined => {
    const set = instance?.env.get(name)
    if (!set || set.value === '') return { ms: byDefault }
    const ms = Number(set.value)
    return set.value === undefined || !Number.isFinite(ms) ? undefined : { ms, at: set }
  }
  const fact = (own: Fact<number> | undefined): TermValue | undefined => own && { ms: own.value, at: own }
  return {
    idle: fact(front?.idleMs),
    notice: fact(front?.noticeMs),
    avoid: fact(front?.avoidMs),
    deregister: fact(front?.deregisterMs),
    keepAlive: fact(instance?.keepAliveMs) ?? { ms: instanceDefaults.keepAliveMs },
    drain: variable('DRAIN_DELAY', instanceDefaults.drainMs),
    shutdown: variable('SHUTDOWN_TIMEOUT', instanceDefaults.shutdownMs),
    preStop: fact(instance?.preStopMs) ?? { ms: 0 },
    grace: fact(instance?.graceMs),
    longest: { ms: longestMs },
  }
}

function compare({ less, more, relation, slackMs = 0, code, why, fix }: TimeoutRule, values: TermValues): Finding[] {
  const terms = [...less, ...more]
  if (terms.some((term) => values[term] === undefined)) return []
  const sum = (of: readonly Term[]): number => of.reduce((total, term) => total + (values[term]?.ms ?? 0), 0)
  const [left, right] = [sum(less) + slackMs, sum(more)]
  if (relation === '<' ? left < right : left <= right) return []
  const place = [...reportedAt.filter((term) => terms.includes(term)), ...terms]
    .map((term) => values[term]?.at)
    .find((at) => at !== undefined)
  if (!place) return []
  const { file, line, address } = place
  const show = (term: Term): string => {
    const { ms = 0, at = place } = values[term] ?? {}
    const elsewhere = at.file === file && at.line === line ? '' : ` (${at.file}:${at.line})`
    return `${term} ${formatDuration(ms)}${elsewhere}`
  }
  const slack = slackMs > 0 ? ` + ${formatDuration(slackMs)}` : ''
  const [lower, upper] = [less.map(show).join(' + '), more.map(show).join(' + ')]
  return [{ code, file, line, address, message: `${lower}${slack} must be ${relation} ${upper}: ${why}`, fix }]
}
