import { readFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import type { Outcome, Spread, Verdict } from './run.ts'
import type { Scenario } from './scenario.ts'

/** On what the figures were taken; they mean nothing without. */
export interface Circumstances {
  readonly date: string
  readonly node: string
  readonly platform: string
  readonly processors: string
  readonly pinned: boolean
  readonly packages: Readonly<Record<string, string>>
}

export function circumstances(pinned: boolean): Circumstances {
  const listed = cpus()
  return {
    date: new Date().toISOString().slice(0, 10),
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    processors: `${listed.length} × ${listed[0]?.model.trim() ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    pinned,
    packages: (read('package.json') as { dependencies: Record<string, string> }).dependencies,
  }
}

const read = (file: string): unknown => JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8'))

export function show({ median, min, max }: Spread, digits: number): string {
  const text = (value: number): string => value.toFixed(digits)
  return text(min) === text(max) ? text(median) : `${text(median)} (${text(min)}–${text(max)})`
}

export const mark = ({ passed }: Verdict): string => (passed === undefined ? 'not measured' : passed ? 'pass' : 'FAIL')

/** Cells of a scenario's table, a heading first. */
export function table(scenario: Scenario, outcome: Outcome): string[][] {
  const metrics = Object.entries(scenario.metrics)
  const head = ['', ...metrics.map(([, { title }]) => title)]
  const rows = outcome.rows.map(({ subject, figures, missing }) => {
    if (missing !== undefined) return [subject, `not measured: ${missing}`, ...metrics.slice(1).map(() => '')]
    return [subject, ...metrics.map(([name, { digits = 1 }]) => (figures[name] ? show(figures[name], digits) : '–'))]
  })
  return [head, ...rows]
}

/**
 * Cells of a page's table, a heading first: the least of the rounds, because other work of the machine only adds, with their
 * ratios to those of one subject.
 */
export function ratios({ metrics }: Scenario, { rows }: Outcome, over: string): string[][] {
  const shown = Object.entries(metrics).filter(([name]) => name !== 'failed')
  const base = rows.find(({ subject }) => subject === over)?.figures ?? {}
  const cell = (row: Outcome['rows'][number], name: string, digits: number): string => {
    const [value, floor] = [row.figures[name]?.min, base[name]?.min]
    if (value === undefined || floor === undefined) return '–'
    return row.subject === over ? value.toFixed(digits) : `${value.toFixed(digits)} (${(value / floor).toFixed(2)} ×)`
  }
  return [
    ['', ...shown.map(([, { title }]) => title)],
    ...rows.map((row) => [row.subject, ...shown.map(([name, { digits = 1 }]) => cell(row, name, digits))]),
  ]
}

/** Replaces the table of a scenario in the text of a page. */
export function withTable(text: string, scenario: Scenario, outcome: Outcome, over: string): string {
  const begin = `<!-- bench:${scenario.name} -->`
  const [before, rest] = text.split(begin)
  const after = rest?.split('<!-- bench:end -->')[1]
  if (after === undefined) throw new Error(`the page has no ${begin} with <!-- bench:end --> after it`)
  const table = lines(ratios(scenario, outcome, over)).join('\n')
  return `${before}${begin}\n${table}\n<!-- bench:end -->${after}`
}

/** Cells of the verdicts, a heading first. */
export const verdictTable = (verdicts: readonly Verdict[]): string[][] => [
  ['bar', 'wanted', 'measured', ''],
  ...verdicts.map((verdict) => [
    verdict.what,
    verdict.bar,
    verdict.value ? show(verdict.value, 2) : '–',
    mark(verdict),
  ]),
]

/** Why bars are missed, a line each. */
export const reasons = (verdicts: readonly Verdict[]): string[] =>
  verdicts.flatMap(({ what, missed }) => (missed ? [`${what}: ${missed.why} (profiles/${missed.profile})`] : []))

export function markdown(run: readonly { scenario: Scenario; outcome: Outcome }[], on: Circumstances): string {
  const verdicts = run.flatMap(({ outcome }) => outcome.verdicts)
  const parts = [
    '# Results',
    '',
    `Made by \`npm run bench\`; do not edit. Node ${on.node}, ${on.platform}; ` +
      (on.pinned
        ? 'server on one core, load generator on the other.'
        : '**not pinned to cores: the ratios are rough.**'),
    'Medians over the rounds, in brackets the least and the most. Subjects are measured in rotation in every round, and a',
    "bar's ratio is the median of the rounds' ratios. CPU µs per request (user and system time of the server and its",
    'children, over completed requests) is what survives a noisy machine; rates and latencies are of one saturated core.',
    '',
    '## Bars',
    '',
    ...lines(verdictTable(verdicts)),
    '',
    ...reasons(verdicts).map((reason) => `- ${reason.replace(/\((profiles\/\S+)\)$/, '([profile]($1))')}`),
  ]
  for (const { scenario, outcome } of run) {
    parts.push('', `## ${scenario.title}`, '', `\`npm run bench -- ${scenario.name}\`. ${scenario.about}`, '')
    parts.push(...lines(table(scenario, outcome)), '', measured(outcome))
  }
  const packages = Object.entries(on.packages).map(([name, version]) => `${name} ${version}`)
  parts.push('', '## Versions', '', `${packages.join(', ')}.`, '')
  return parts.join('\n')
}

function measured({ rounds, seconds, on }: Outcome): string {
  const where = on ? `, on ${on.date} with ${on.processors}` : ''
  return `${rounds} rounds of ${seconds} s each${where}.`
}

function lines([head = [], ...rows]: readonly string[][]): string[] {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...rows.map(line)]
}
