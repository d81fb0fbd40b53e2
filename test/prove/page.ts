import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { withHosts } from './hosts/table.ts'
import type { Outcome } from './outcome.ts'
import { type PromiseId, type PromiseLine, promises } from './promises.ts'
import { matchesTitle, type TitledCall, titledCalls } from './titles.ts'

const page = new URL('../../docs/guarantees.md', import.meta.url)
const saved = new URL('last.json', import.meta.url)
const begin = '<!-- Written by `npm run prove -- --save`. -->'
const end = '<!-- end -->'

/** By the name of the proof. */
type Last = Record<string, Outcome>

const number = new Intl.NumberFormat('en')
/** Counts that can be added, besides requests and failures. */
const words: Record<string, string> = {
  inFlight: 'lost in flight',
  twice: 'executed twice',
  replaced: 'processes replaced',
  killed: 'processes killed',
  reloads: 'reloads',
  rejectedBuilds: 'builds rejected',
  ofCanary: 'errors of the canary',
  bad: 'bad builds',
  drained: 'instances drained',
  outage: 'refused while it was down',
  repeated: 'sent again by the load balancer',
  resent: 'sent again by the client',
}

const readLast = (): Last => JSON.parse(readFileSync(saved, 'utf8')) as Last
/** The last passed outcome of each proof. */
export const lastOutcomes = (): Outcome[] => Object.values(readLast())

/** The proofs of each file. */
export function proofs(): Map<string, TitledCall[]> {
  const folder = new URL('.', import.meta.url)
  const files = globSync('*.prove.ts', { cwd: folder.pathname }).sort()
  return new Map(files.map((file) => [file, titledCalls(readFileSync(new URL(file, folder), 'utf8'), /^prove/)]))
}

/** The last counts of proofs of one promise: of several together only those that can be added. */
function counts(outcomes: readonly Outcome[]): string {
  if (outcomes.length === 0) return 'not run yet'
  const names = new Set(outcomes.flatMap(({ counts }) => Object.keys(counts)))
  const shown = [...names].filter(
    (name) => outcomes.length === 1 || ['requests', 'failed', ...Object.keys(words)].includes(name),
  )
  const sum = (name: string): number => outcomes.reduce((total, { counts }) => total + (counts[name] ?? 0), 0)
  const modes = [...new Set(outcomes.map(({ mode }) => mode))].join(' and ')
  const latest = outcomes
    .map(({ started }) => started.slice(0, 10))
    .sort()
    .at(-1)
  const listed = shown.map((name) => `${number.format(sum(name))} ${words[name] ?? name}`)
  const all = [...(outcomes.length > 1 ? [`${outcomes.length} proofs`] : []), ...listed]
  return `${all.join(', ') || 'passed'} (${modes}, ${latest})`
}

/** A cell of a table on one line. */
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

/** The generated part of docs/guarantees.md: a table for each page, a row for each promise. */
export function render(last: Last): string {
  const files = proofs()
  const row = ([id, line]: [PromiseId, PromiseLine]): string => {
    const shown = [...files].flatMap(([file, calls]) => {
      if (!calls.some(({ second }) => second.includes(id))) return []
      const outcomes = Object.values(last).filter(({ promise, file: of }) => promise === id && of === file)
      return [`**\`test/prove/${file}\`: ${counts(outcomes)}**`]
    })
    const tests = (line.tests ?? []).map((test) => {
      const [file = '', title] = test.split(' › ')
      return `\`${file}\`${title === undefined ? '' : `: ${title.replaceAll('*', '…')}`}`
    })
    return `| ${[line.wording, line.under, line.cost].map(cell).join(' | ')} | ${[...shown, ...tests].map(cell).join('<br>')} |`
  }
  const pages = Map.groupBy(Object.entries(promises) as [PromiseId, PromiseLine][], ([, { page }]) => page)
  const tables = [...pages].map(([page, lines]) => {
    const name = page.startsWith('docs/') ? page.slice(5) : `../${page}`
    return [
      `## [${page.split('/').at(-1)}](${name})\n`,
      '| promise | under | cost to a client at worst | shown by |',
      '|---|---|---|---|',
      ...lines.map(row),
    ].join('\n')
  })
  return tables.join('\n\n')
}

/** docs/guarantees.md as it should be. */
export function expectedPage(): { text: string; expected: string } {
  const text = readFileSync(page, 'utf8')
  const last = readLast()
  const [head, tail] = [text.split(begin)[0], text.split(end)[1]]
  return { text, expected: withHosts(`${head}${begin}\n\n${render(last)}\n\n${end}${tail}`) }
}

/** Keeps the counts of what passed, without those of proofs that no longer exist, and writes the page. */
export function writePage(outcomes: readonly Outcome[]): void {
  const last = readLast()
  for (const outcome of outcomes) if (outcome.status === 'passed') last[outcome.name] = outcome
  const files = proofs()
  const exists = ({ file, name }: Outcome): boolean =>
    (files.get(file) ?? []).some(({ title }) =>
      [title, `${title}, part *`].some((pattern) => matchesTitle(pattern, name)),
    )
  const sorted = Object.values(last)
    .filter(exists)
    .sort((a, b) => a.name.localeCompare(b.name))
  writeFileSync(
    saved,
    `${JSON.stringify(Object.fromEntries(sorted.map((outcome) => [outcome.name, outcome])), null, 2)}\n`,
  )
  writeFileSync(page, expectedPage().expected)
}
