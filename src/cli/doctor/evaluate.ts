import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { say } from './durations.ts'
import type { Fact, Front, Instance, Place, Reading, Sighting } from './facts.ts'
import { others, pairs, type Trap, traps } from './rules.ts'
import { weakSecrets } from './secrets.ts'
import { instanceDefaults, ladder, type Rung, type Term } from './timeout-rules.ts'

export interface Finding extends Place {
  readonly code: string
  readonly message: string
  readonly mend: string
}

export interface Assumptions {
  /** The longest request, ms. */
  readonly longestMs: number
}

/** Applies every rule to what was read. In the order of files and lines; one finding for a rule and a place. */
export function judge(readings: readonly Reading[], assumptions: Assumptions): Finding[] {
  const of = <R extends Reading['role']>(role: R): Extract<Reading, { role: R }>[] =>
    readings.filter((reading) => reading.role === role) as Extract<Reading, { role: R }>[]
  const instances = of('instance')
  const fronts = of('front')
  const findings = [
    ...of('sighting').map(judgeSighting),
    ...instances.flatMap((instance) => judgeInstance(instance, fronts, instances)),
    ...fronts.flatMap((front) =>
      wrong(front.readiness, /\/ready$/) ? [found(others.readiness, front.readiness, shown(front.readiness))] : [],
    ),
    ...ladder.flatMap((rung) => climb(rung, fronts, instances, assumptions)),
  ]
  const seen = new Set<string>()
  return findings
    .filter(({ code, file, line }) => {
      const key = `${code} ${file}:${line}`
      return !seen.has(key) && seen.add(key)
    })
    .sort((a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.code.localeCompare(b.code))
}

export const found = (trap: Trap, { file, line }: Place, detail?: string): Finding => ({
  code: trap.code,
  file,
  line,
  message: detail ? `${trap.problem} (${detail})` : trap.problem,
  mend: trap.mend,
})

const judgeSighting = (sighting: Sighting): Finding =>
  found(traps[sighting.what as keyof typeof traps], sighting, sighting.detail)

const shown = ({ value }: Fact<string>): string => value
const wrong = (fact: Fact<string> | undefined, right: RegExp): fact is Fact<string> =>
  fact !== undefined && !right.test(fact.value)

function judgeInstance(instance: Instance, fronts: readonly Front[], all: readonly Instance[]): Finding[] {
  const { env, unseen, copies, command, readiness, liveness } = instance
  const findings: Finding[] = weakSecrets(env).map(({ place, detail }) => found(others.secretWeak, place, detail))
  if (wrong(readiness, /\/ready$/)) findings.push(found(others.readiness, readiness, readiness.value))
  if (wrong(liveness, /\/(?:live|alive)$/)) findings.push(found(others.liveness, liveness, liveness.value))
  if (command && losesSignals(command.value)) findings.push(found(others.signals, command, command.value.slice(0, 60)))

  const many = (copies?.value ?? 1) > 1
  const id = env.get('INSTANCE_ID')
  if (many && id?.value) findings.push(found(others.id, id, id.value))
  const allowed = env.get('FLEET_ALLOW_MEMORY')
  const redis = [...env.keys()].some((name) => /^REDIS_(?:URL|HOST|SENTINELS|CLUSTER)$/.test(name))
  if (many && !redis && allowed && /^(?:1|true)$/i.test(allowed.value ?? ''))
    findings.push(found(others.memory, allowed))
  else if (many && !redis && unseen === 'none') findings.push(found(others.memory, copies ?? instance))

  const trusted = env.get('TRUST_PROXY')
  if (trusted?.value?.split(',').some((entry) => /^(?:\*|true|all|0\.0\.0\.0\/0|::\/0)$/i.test(entry.trim())))
    findings.push(found(traps['trust-everyone'], trusted, trusted.value))
  if (!trusted && isWhole(instance, all) && fronts.some((front) => related(front, all).includes(instance)))
    findings.push(found(others.trustMissing, instance, instance.name))
  return [...findings, ...badValues(instance)]
}

/** Whether a variable that is not here is not set. A `.env` beside a compose file only fills in its values. */
const isWhole = ({ source, unseen, env }: Instance, all: readonly Instance[]): boolean =>
  source === 'environment' ? !all.some((other) => other.source === 'compose') : unseen !== 'any' && env.size > 0

const losesSignals = (command: string): boolean =>
  /^(?:\S*\/)?(?:npm|yarn|pnpm|npx)\b/.test(command) ||
  (/^(?:\S*\/)?(?:ba|da|a)?sh\s+-c\s/.test(command) && !/\bexec\s/.test(command))

/** What the instance would say at its start. */
function badValues({ env }: Instance): Finding[] {
  return [...env].flatMap(([name, variable]) => {
    // With what TRUST_PROXY=true and the like mean, a rule of their own deals.
    if (variable.value === undefined) return []
    try {
      readEnv({ [name]: variable.value })
      return []
    } catch (error) {
      if (!(error instanceof FleetError)) throw error
      return [found(others.values, variable, error.message.replace(/^[^:]*: /, ''))]
    }
  })
}

/** The instances a front stands before, as far as files can tell. */
function related(front: Front, instances: readonly Instance[]): readonly Instance[] {
  const candidates = instances.filter(({ source }) => source !== 'image')
  const own = candidates.filter(({ source }) => pairs[front.source].includes(source))
  return own.length > 0 ? own : candidates
}

const frontTerms = { idle: 'idleMs', notice: 'noticeMs', avoid: 'avoidMs', deregister: 'deregisterMs' } as const
type FrontTerm = keyof typeof frontTerms

function climb(
  rung: Rung,
  fronts: readonly Front[],
  instances: readonly Instance[],
  assumptions: Assumptions,
): Finding[] {
  const term = [...rung.less, ...rung.more].find((name): name is FrontTerm => name in frontTerms)
  if (term === undefined) return instances.flatMap((instance) => step(rung, instance, undefined, assumptions))
  return fronts.flatMap((front) => {
    const own = front[frontTerms[term]]
    if (!own) return []
    const behind = related(front, instances)
    const asked: readonly (Instance | undefined)[] = behind.length > 0 ? behind : [undefined]
    return asked.flatMap((instance) => step(rung, instance, { term, fact: own }, assumptions))
  })
}

interface Known {
  readonly ms: number
  /** Where it is written; nothing for a default. */
  readonly at?: Place
}

function step(
  rung: Rung,
  instance: Instance | undefined,
  front: { term: FrontTerm; fact: Fact<number> } | undefined,
  assumptions: Assumptions,
): Finding[] {
  const known = (term: Term): Known | undefined =>
    term === front?.term ? { ms: front.fact.value, at: front.fact } : instanceTerm(term, instance, assumptions)
  const less = rung.less.map((term) => ({ term, known: known(term) }))
  const more = rung.more.map((term) => ({ term, known: known(term) }))
  const all = [...less, ...more]
  if (all.some((entry) => entry.known === undefined)) return []
  const sum = (entries: typeof all): number => entries.reduce((total, entry) => total + (entry.known?.ms ?? 0), 0)
  const [left, right] = [sum(less) + rung.slackMs, sum(more)]
  if (rung.relation === '<' ? left < right : left <= right) return []
  const place =
    front?.fact ??
    all.find(({ term, known }) => term === 'grace' && known?.at)?.known?.at ??
    all.find(({ known }) => known?.at)?.known?.at
  if (!place) return []
  const tell = (entries: typeof all): string =>
    entries.map(({ term, known }) => `${term} ${say(known?.ms ?? 0)}${elsewhere(known?.at, place)}`).join(' + ')
  const slack = rung.slackMs > 0 ? ` + ${say(rung.slackMs)}` : ''
  const message = `${tell(less)}${slack} must be ${rung.relation} ${tell(more)}: ${rung.why}`
  return [{ code: rung.code, file: place.file, line: place.line, message, mend: rung.mend }]
}

const elsewhere = (at: Place | undefined, place: Place): string =>
  at === undefined || (at.file === place.file && at.line === place.line) ? '' : ` (${at.file}:${at.line})`

function instanceTerm(term: Term, instance: Instance | undefined, { longestMs }: Assumptions): Known | undefined {
  const variable = (name: string, byDefault: number): Known | undefined => {
    const set = instance?.env.get(name)
    if (!set || set.value === '') return { ms: byDefault }
    const ms = Number(set.value)
    return set.value === undefined || !Number.isFinite(ms) ? undefined : { ms, at: set }
  }
  const fact = (own: Fact<number> | undefined, byDefault?: number): Known | undefined =>
    own ? { ms: own.value, at: own } : byDefault === undefined ? undefined : { ms: byDefault }
  switch (term) {
    case 'keepAlive':
      return fact(instance?.keepAliveMs, instanceDefaults.keepAliveMs)
    case 'drain':
      return variable('DRAIN_DELAY', instanceDefaults.drainMs)
    case 'shutdown':
      return variable('SHUTDOWN_TIMEOUT', instanceDefaults.shutdownMs)
    case 'preStop':
      return fact(instance?.preStopMs, 0)
    case 'grace':
      return fact(instance?.graceMs)
    case 'longest':
      return { ms: longestMs }
    default:
      return undefined
  }
}
