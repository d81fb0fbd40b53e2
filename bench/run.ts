import type { Machine } from './machine.ts'
import type { Bar, Figures, Missed, Open, Scenario } from './scenario.ts'

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export interface Row {
  readonly subject: string
  /** By metric; empty when there are no figures. */
  readonly figures: Readonly<Record<string, Spread>>
  /** Why there are none. */
  readonly missing?: string
}

export interface Verdict {
  readonly what: string
  /** `at most 1.4` */
  readonly bar: string
  /** The ratio, or the figure where the bar is on the figure itself; the median over the rounds. */
  readonly value?: Spread
  /** `undefined`: it could not be measured. */
  readonly passed?: boolean
  /** Of a missed one whose reason is known. */
  readonly missed?: Missed
}

export interface Outcome {
  readonly scenario: string
  readonly rounds: number
  readonly seconds: number
  readonly rows: readonly Row[]
  readonly verdicts: readonly Verdict[]
  /** When and on what it was measured, of a saved one. */
  readonly on?: { readonly date: string; readonly processors: string }
}

export interface Pace {
  readonly rounds: number
  /** Of one round of one subject. */
  readonly seconds: number
  /** Called before each step with what comes next. */
  readonly step?: (what: string) => void
}

/** How many steps {@link runScenario} takes. */
export const stepsOf = ({ subjects, slices = 1 }: Scenario, rounds: number): number =>
  subjects.length * (rounds * slices + 1)

/**
 * Measures all subjects in rotation, round after round (A B C A B C …): a temporary disturbance of the machine affects all
 * of them alike, and a ratio is taken within each round.
 */
export async function runScenario(scenario: Scenario, machine: Machine, pace: Pace): Promise<Outcome> {
  const { subjects, slices = 1 } = scenario
  const length = pace.seconds / slices
  const opened = new Map<string, Open>()
  const missing = new Map<string, string>()
  const rounds = new Map<string, Figures[]>(subjects.map(({ name }) => [name, []]))
  const attempt = async (name: string, what: string, task: () => Promise<void>): Promise<void> => {
    pace.step?.(`${scenario.name}: ${name}, ${what}`)
    if (missing.has(name)) return
    await within(patienceMs, what, task()).catch((error: Error) => missing.set(name, reasonOf(error)))
  }
  try {
    for (const { name, open } of subjects) {
      await attempt(name, 'starting', async () => void opened.set(name, await open(machine)))
    }
    for (let round = 1; round <= pace.rounds * slices; round++) {
      for (const { name } of subjects) {
        await attempt(name, `round ${round}`, async () => {
          rounds.get(name)?.push((await opened.get(name)?.round(length)) ?? {})
        })
      }
    }
  } finally {
    for (const [name, open] of [...opened].reverse()) {
      await within(patienceMs, 'ending', open.close()).catch((error: Error) => missing.set(name, reasonOf(error)))
    }
  }
  const rows = subjects.map(({ name }): Row => {
    const reason = missing.get(name)
    return {
      subject: name,
      figures: spreads(rounds.get(name) ?? []),
      ...(reason === undefined ? {} : { missing: reason }),
    }
  })
  const verdicts = scenario.bars.map((bar) => judge(bar, rounds))
  return { scenario: scenario.name, rounds: pace.rounds * slices, seconds: length, rows, verdicts }
}

/** The outcome of a scenario that could not be run at all: the others go on, and its bars count as not measured. */
export function failed(scenario: Scenario, { rounds, seconds }: Pace, error: Error): Outcome {
  const none = new Map<string, Figures[]>()
  const rows = scenario.subjects.map(({ name }) => ({ subject: name, figures: {}, missing: reasonOf(error) }))
  return { scenario: scenario.name, rounds, seconds, rows, verdicts: scenario.bars.map((bar) => judge(bar, none)) }
}

/** What hangs must not keep the rest from being measured. */
const patienceMs = 120_000

async function within<T>(ms: number, what: string, task: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`${what}: not done within ${ms / 1000} s`)), ms)
  return Promise.race([task, promise]).finally(() => clearTimeout(timer))
}

/** One line: of the output of a program that ended, the part that names the error. */
const reasonOf = ({ message }: Error): string =>
  (/^.*Error.*$/m.exec(message)?.[0] ?? message.split('\n', 1)[0] ?? 'failed').trim().slice(0, 200)

export function spread(values: readonly number[]): Spread | undefined {
  const sorted = values.filter((value) => Number.isFinite(value)).sort((a, b) => a - b)
  const [min] = sorted
  const max = sorted.at(-1)
  if (min === undefined || max === undefined) return undefined
  const middle = (sorted.length - 1) / 2
  const median = ((sorted[Math.floor(middle)] as number) + (sorted[Math.ceil(middle)] as number)) / 2
  return { median, min, max }
}

function spreads(rounds: readonly Figures[]): Record<string, Spread> {
  const figures: Record<string, Spread> = {}
  for (const metric of new Set(rounds.flatMap((round) => Object.keys(round)))) {
    const all = spread(rounds.map((round) => round[metric] ?? Number.NaN))
    if (all) figures[metric] = all
  }
  return figures
}

function judge(bar: Bar, rounds: ReadonlyMap<string, readonly Figures[]>): Verdict {
  const { what, subject, metric, over, overMetric = metric, limit, is = 'at most', missed } = bar
  const words = over === undefined ? '' : ' ×'
  const base = over === undefined ? undefined : (rounds.get(over) ?? [])
  const values = (rounds.get(subject) ?? []).map((round, i) => {
    const value = round[metric] ?? Number.NaN
    return base === undefined ? value : value / (base[i]?.[overMetric] ?? Number.NaN)
  })
  const value = spread(values)
  const result = { what, bar: `${is} ${limit}${words}` }
  if (!value) return result
  const passed =
    is === 'at most' ? value.median <= limit : is === 'at least' ? value.median >= limit : allAre(value, limit)
  return { ...result, value, passed, ...(passed || !missed ? {} : { missed }) }
}

/** What must be exact must be so in every round. */
const allAre = ({ min, max }: Spread, limit: number): boolean => min === limit && max === limit
