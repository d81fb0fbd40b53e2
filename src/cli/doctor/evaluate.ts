import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { type Assumptions, compare, known, related, type TermValues, valuesOf } from './budget.ts'
import { formatDuration } from './durations.ts'
import {
  type Confidence,
  type Fact,
  type FrontFacts,
  type InstanceFacts,
  type Place,
  type Reading,
  type Replacement,
  type Unjudged,
  unjudged,
} from './facts.ts'
import { type RuleCode, rules } from './rules.ts'
import { secretDoubt, weakness } from './secrets.ts'
import { type Term, type TimeoutRule, timeoutRules } from './timeout-rules.ts'

export interface Finding extends Place {
  readonly code: string
  readonly message: string
  readonly fix: string
  readonly confidence: Exclude<Confidence, 'unknown'>
  /** What was assumed; the finding is a warning. */
  readonly assumed?: string
  /** The fix as a change of the line. */
  readonly edit?: Replacement
}

/** A rule that was applied to something in a file, whether it holds or not. */
export interface Applied {
  readonly code: string
  readonly file: string
}

export interface Evaluation {
  /** Sorted by file and line; a rule reports a line or an object once. */
  readonly findings: readonly Finding[]
  readonly applied: readonly Applied[]
  readonly unjudged: readonly Unjudged[]
}

/** Applies every rule to the readings. */
export function evaluate(readings: readonly Reading[], assumptions: Assumptions): Evaluation {
  const of = <R extends Reading['role']>(role: R): Extract<Reading, { role: R }>[] =>
    readings.filter((reading) => reading.role === role) as Extract<Reading, { role: R }>[]
  const log = new Log()
  for (const { code, file } of of('passed')) log.applies(code, file)
  for (const reading of of('unjudged')) log.skips(reading)
  const instances = of('instance')
  const fronts = of('front')
  const hasFleet = instances.some(({ assumed }) => assumed === undefined)
  for (const { code, detail, ofFleet, assumed, edit, ...place } of of('violation')) {
    const unsure = ofFleet && !hasFleet ? 'the upstreams are instances of a fleet' : assumed
    log.report(found(code, place, detail, { assumed: unsure, edit }))
  }
  for (const instance of instances) checkInstance(instance, fronts, instances, log)
  for (const front of fronts) checkReadiness(front, instances, log)
  for (const rule of timeoutRules) applyTimeoutRule(rule, fronts, instances, assumptions, log)
  return log
}

class Log implements Evaluation {
  readonly #findings = new Map<string, Finding>()
  readonly #unjudged = new Map<string, Unjudged>()
  readonly applied: Applied[] = []

  applies(code: string, file: string): void {
    this.applied.push({ code, file })
  }

  skips(what: Unjudged): void {
    this.#unjudged.set(`${what.file}:${what.line} ${what.why} ${what.codes}`, what)
  }

  get unjudged(): readonly Unjudged[] {
    return [...this.#unjudged.values()]
  }

  /** A certain finding replaces an assumed one of the same place. */
  report(finding: Finding): void {
    this.applies(finding.code, finding.file)
    const key = `${finding.code} ${finding.file}:${finding.line} ${finding.address}`
    const other = this.#findings.get(key)
    if (!other || (other.confidence === 'assumed' && finding.confidence === 'certain')) this.#findings.set(key, finding)
  }

  get findings(): readonly Finding[] {
    return [...this.#findings.values()].sort(
      (a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.code.localeCompare(b.code),
    )
  }
}

export const found = (
  code: RuleCode,
  { file, line, address }: Place,
  detail?: string,
  { assumed, edit }: { readonly assumed?: string; readonly edit?: Replacement } = {},
): Finding => {
  const { problem, fix } = rules[code]
  const confidence = assumed === undefined ? 'certain' : 'assumed'
  return {
    code,
    file,
    line,
    address,
    message: detail ? `${problem} (${detail})` : problem,
    fix,
    confidence,
    assumed,
    edit,
  }
}

/** Whether the app behind a front is known to be one of ours, so that its paths and defaults are known. */
const assumedBehind = (front: FrontFacts, instances: readonly InstanceFacts[]): string | undefined => {
  const behind = related(front, instances)
  if (behind.some(({ assumed }) => assumed === undefined)) return undefined
  return behind[0]?.assumed ?? 'its upstreams are instances of a fleet'
}

function checkReadiness(front: FrontFacts, instances: readonly InstanceFacts[], log: Log): void {
  const { readiness } = front
  if (!readiness) return
  log.applies('DOCTOR_READINESS_PATH', readiness.file)
  if (/\/ready$/.test(readiness.value)) return
  const assumed = readiness.assumed ?? assumedBehind(front, instances)
  log.report(found('DOCTOR_READINESS_PATH', readiness, readiness.value, { assumed }))
}

function checkInstance(
  instance: InstanceFacts,
  fronts: readonly FrontFacts[],
  all: readonly InstanceFacts[],
  log: Log,
): void {
  const { env, unseen, copies, command, readiness, liveness, assumed: uncertain, file } = instance
  /** `needsFleet`: the rule is true of instances of a fleet only. */
  const check = (code: RuleCode, fails: boolean, at: Place, detail?: string, needsFleet = true): void => {
    log.applies(code, file)
    const { assumed = needsFleet ? uncertain : undefined } = at as Partial<Fact<unknown>>
    if (fails) log.report(found(code, at, detail, { assumed }))
  }
  for (const [name, secret] of env) {
    const why = secret.value && weakness(name, secret.value)
    const at = { ...secret, assumed: secretDoubt(secret.file) }
    check('DOCTOR_SECRET_WEAK', !!why, at, `${name}: ${why}`, false)
  }
  if (readiness) check('DOCTOR_READINESS_PATH', !/\/ready$/.test(readiness.value), readiness, readiness.value)
  if (liveness) check('DOCTOR_LIVENESS_PATH', !/\/(?:live|alive)$/.test(liveness.value), liveness, liveness.value)
  if (command) check('DOCTOR_SIGNALS', losesSignals(command.value), command, command.value.slice(0, 60), false)

  const many = (copies?.value ?? 1) > 1
  const id = env.get('INSTANCE_ID')
  if (id?.value) check('DOCTOR_INSTANCE_ID', many, id, id.value)
  const allowed = env.get('FLEET_ALLOW_MEMORY')
  const redis = [...env.keys()].some((name) => /^REDIS_(?:URL(?:_FILE)?|HOST|SENTINELS|CLUSTER)$/.test(name))
  if (allowed && /^(?:1|true)$/i.test(allowed.value ?? '')) check('DOCTOR_STATE_IN_MEMORY', many && !redis, allowed)
  else if (unseen === 'none') check('DOCTOR_STATE_IN_MEMORY', many && !redis, copies ?? instance)

  const trusted = env.get('TRUST_PROXY')
  if (trusted) {
    const everyone = trusted.value
      ?.split(',')
      .some((entry) => /^(?:\*|true|all|0\.0\.0\.0\/0|::\/0)$/i.test(entry.trim()))
    check('DOCTOR_TRUST_EVERYONE', everyone === true, trusted, trusted.value)
  } else if (isComplete(instance, all) && fronts.some((front) => related(front, all).includes(instance)))
    check('DOCTOR_TRUST_MISSING', true, instance, instance.name)
  for (const [variable, why] of badValues(instance)) check('DOCTOR_VALUE', why !== undefined, variable, why)
}

/** Whether an absent variable is unset. A `.env` beside a compose file only supplies values for it. */
const isComplete = ({ source, unseen, env }: InstanceFacts, all: readonly InstanceFacts[]): boolean =>
  source === 'environment' ? !all.some((other) => other.source === 'compose') : unseen !== 'any' && env.size > 0

const losesSignals = (command: string): boolean =>
  /^(?:\S*\/)?(?:npm|yarn|pnpm|npx)\b/.test(command) ||
  (/^(?:\S*\/)?(?:ba|da|a)?sh\s+-c\s/.test(command) && !/\bexec\s/.test(command))

/** Each value, with the reason why an instance would reject it at startup. */
function badValues({ env }: InstanceFacts): (readonly [Fact<string | undefined>, string | undefined])[] {
  return [...env].flatMap(([name, variable]): [Fact<string | undefined>, string | undefined][] => {
    // Files of secrets belong to another machine.
    if (variable.value === undefined || name.endsWith('_FILE')) return []
    try {
      // Some values are validated on access.
      Object.values(readEnv({ [name]: variable.value }))
      return [[variable, undefined]]
    } catch (error) {
      if (!(error instanceof FleetError)) throw error
      return [[variable, error.message.replace(/^[^:]*: /, '')]]
    }
  })
}

/** The terms of fronts, then the grace period: a finding is reported where the first of them is set. */
const reportedAt: readonly Term[] = ['idle', 'notice', 'avoid', 'deregister', 'grace']
const isOfFront = (term: Term): boolean => term !== 'grace' && reportedAt.includes(term)

function applyTimeoutRule(
  rule: TimeoutRule,
  fronts: readonly FrontFacts[],
  instances: readonly InstanceFacts[],
  assumptions: Assumptions,
  log: Log,
): void {
  const apply = (instance: InstanceFacts | undefined, front: FrontFacts | undefined): void =>
    judge(rule, valuesOf(instance, front, assumptions), instance, front, log)
  if (![...rule.less, ...rule.more].some(isOfFront)) for (const instance of instances) apply(instance, undefined)
  else
    for (const front of fronts) {
      const behind = related(front, instances)
      for (const instance of behind.length > 0 ? behind : [undefined]) apply(instance, front)
    }
}

function judge(
  rule: TimeoutRule,
  values: TermValues,
  instance: InstanceFacts | undefined,
  front: FrontFacts | undefined,
  log: Log,
): void {
  const compared = compare(rule, values)
  if (compared.outcome === 'absent') return
  const at = front ?? instance
  if (compared.outcome === 'unknown') {
    if (at) log.skips(unjudged(at, `the value of ${compared.terms.join(' and ')} is not known`, [rule.code]))
    return
  }
  const { terms } = compared
  const given = terms.flatMap((term) => known(values, term) ?? [])
  for (const { at: place } of given) if (place) log.applies(rule.code, place.file)
  if (compared.outcome === 'holds') return
  const place = [...reportedAt.filter((term) => terms.includes(term)), ...terms]
    .map((term) => known(values, term)?.at)
    .find((one) => one !== undefined)
  if (!place) return
  const { file, line, address } = place
  const assumed = given.flatMap((value) => value.assumed ?? [])
  // Without defaults the file names variables of a fleet, so this is one.
  log.report({
    code: rule.code,
    ...{ file, line, address },
    message: describe(rule, values, place),
    fix: rule.fix,
    ...(assumed.length > 0
      ? { confidence: 'assumed', assumed: [...new Set(assumed)].join('; ') }
      : { confidence: 'certain' }),
    edit: editOf(rule, values, place),
  })
}

function describe({ less, more, relation, slackMs = 0, why }: TimeoutRule, values: TermValues, place: Place): string {
  const show = (term: Term): string => {
    const { ms = 0, at = place, default: whose } = known(values, term) ?? {}
    const elsewhere = at.file === place.file && at.line === place.line ? undefined : `${at.file}:${at.line}`
    const notes = [elsewhere, whose].filter((note) => note !== undefined)
    return `${term} ${formatDuration(ms)}${notes.length > 0 ? ` (${notes.join(', ')})` : ''}`
  }
  const slack = slackMs > 0 ? ` + ${formatDuration(slackMs)}` : ''
  return `${less.map(show).join(' + ')}${slack} must be ${relation} ${more.map(show).join(' + ')}: ${why}`
}

/** The change of the reported timeout that satisfies the rule, if its file sets it in one place. */
function editOf(
  { less, more, relation, slackMs = 0 }: TimeoutRule,
  values: TermValues,
  place: Place,
): Replacement | undefined {
  const term = reportedAt.find((one) => [...less, ...more].includes(one))
  const value = term && known(values, term)
  if (!term || !value?.write || value.at !== place) return undefined
  const sum = (of: readonly Term[]): number =>
    of.reduce((total, one) => (one === term ? total : total + (known(values, one)?.ms ?? 0)), 0)
  const margin = relation === '<' ? 1_000 : 0
  const whole = (ms: number, round: (ratio: number) => number): number => round(ms / 1_000) * 1_000
  const ms = more.includes(term)
    ? whole(sum(less) + slackMs + margin - sum(more), Math.ceil)
    : whole(sum(more) - margin - sum(less) - slackMs, Math.floor)
  return ms > 0 ? value.write(ms) : undefined
}
