import { usageError } from '../args.ts'
import { type RuleCode, rules } from './rules.ts'
import { sources } from './sources.ts'
import { type Term, type TimeoutRule, timeoutRules } from './timeout-rules.ts'

export interface Explained {
  readonly code: string
  readonly problem: string
  readonly fix: string
  readonly sources: readonly string[]
  readonly rule?: TimeoutRule
}

/** @throws FLEET_ERR_USAGE for a code that does not exist */
export function ruleOf(code: string): Explained {
  const rule = timeoutRules.find((one) => one.code === code)
  if (rule)
    return { code, problem: `${inequality(rule)} does not hold`, fix: rule.fix, sources: sources[code] ?? [], rule }
  if (!Object.hasOwn(rules, code)) throw usageError(`--explain ${code}: no such rule; docs/doctor.md lists them`)
  return { code, ...rules[code as RuleCode], sources: sources[code] ?? [] }
}

/** `drain + longest ≤ shutdown`. */
export const inequality = ({ less, more, relation, slackMs = 0 }: TimeoutRule): string =>
  `${less.join(' + ')}${slackMs > 0 ? ` + ${slackMs / 1_000} s` : ''} ${relation} ${more.join(' + ')}`

/** As in docs/timeouts.md. */
export const meaning: Readonly<Record<Term, string>> = {
  idle: 'the front’s idle timeout for connections to instances',
  keepAlive: 'the instance’s keep-alive timeout',
  notice: 'the time until the front notices a drain',
  avoid: 'how long nginx avoids an instance after a failure',
  drain: 'DRAIN_DELAY',
  preStop: 'preStop, part of the grace period in Kubernetes',
  longest: 'the longest request (--longest, 10 s)',
  shutdown: 'SHUTDOWN_TIMEOUT',
  grace: 'the grace period from SIGTERM to SIGKILL',
  deregister: 'how long a deregistered target may finish its requests',
}

/** The ladder of a shutdown. The bars of a rule are marked. */
const ladder: readonly (readonly [terms: readonly Term[], bar: string])[] = [
  [['preStop'], '├─ preStop ─┤'],
  [['notice'], '├───── notice ─────▶ the front sends no new requests'],
  [['drain'], '            ├─ drain ─┤ the listener closes'],
  [['avoid'], '            ├── avoid ──▶ nginx tries the instance again'],
  [['longest'], '                      ├─ longest ─┤ requests in flight end'],
  [['shutdown'], '            ├─────── shutdown ──────┤ what is left is cut'],
  [['deregister'], '├──────────── deregister ────────────▶ the load balancer cuts'],
  [['grace'], '├────────────── grace ──────────────────┤ SIGKILL'],
  [['keepAlive'], '├──────── keepAlive ────────┤ the instance closes an idle connection'],
  [['idle'], '├────── idle ──────┤ the front closes it first'],
]

/** What `--explain` prints. */
export function explain(code: string): string[] {
  const { problem, fix, sources: urls, rule } = ruleOf(code)
  const terms = rule ? [...rule.less, ...rule.more] : []
  const bars = ladder.filter(([of]) => of.some((term) => terms.includes(term))).map(([, bar]) => `  ${bar}`)
  const picture = bars.length > 0 ? ['', ...bars] : []
  const about = rule
    ? [inequality(rule), ...terms.map((term) => `  ${term}: ${meaning[term]}`), '', `why: ${rule.why}`]
    : [problem]
  return [code, '', ...about, ...picture, '', `fix: ${fix}`, ...urls.map((url) => `see: ${url}`)]
}
