import type { Budget } from './budget.ts'
import { formatDuration } from './durations.ts'

const minWidth = 30
/** Longer lists of instances repeat themselves. */
const maxBudgets = 6

interface Mark {
  readonly at: number
  readonly text: string
}

/** A line of time per distinct drain budget: check interval of the front, drain delay, shutdown, kill. */
export function timelines(budgets: readonly Budget[], columns: number): string[] {
  const distinct = Map.groupBy(budgets, ({ name, ...times }) => JSON.stringify(times))
  return [...distinct.values()].slice(0, maxBudgets).flatMap((same) => {
    const [first] = same
    if (!first) return []
    const more = same.length > 1 ? ` and ${same.length - 1} more` : ''
    return [`${first.name}${more}`, ...draw(first, Math.max(minWidth, Math.min(columns, 100) - 4))]
  })
}

function draw(budget: Budget, width: number): string[] {
  const { notice, preStop, drain, shutdown, grace, assumed } = budget
  const name = (term: string, text: string): string =>
    (assumed as readonly string[]).includes(term) ? `${text} (assumed)` : text
  const marks: Mark[] = [
    { at: preStop, text: 'SIGTERM' },
    ...(notice === undefined ? [] : [{ at: notice, text: name('notice', 'the front notices') }]),
    { at: preStop + drain, text: name('drain', 'the listener closes') },
    { at: preStop + shutdown, text: name('shutdown', 'requests are cut') },
    ...(grace === undefined ? [] : [{ at: grace, text: name('grace', 'SIGKILL') }]),
  ].sort((a, b) => a.at - b.at)
  const end = Math.max(...marks.map(({ at }) => at), 1)
  const column = (ms: number): number => Math.round((ms / end) * (width - 1))
  const line = Array.from({ length: width }, () => '─')
  for (const { at } of marks) line[column(at)] = '┼'
  return [
    `  ${line.join('')}`,
    ...marks.map(({ at, text }) => {
      const label = `${formatDuration(at)} ${text}`
      const start = Math.min(column(at), Math.max(width - label.length - 1, 0))
      return `  ${' '.repeat(start)}${start === column(at) ? '╰' : ' '}${label}`
    }),
  ]
}
