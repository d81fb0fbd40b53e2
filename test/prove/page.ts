import { readFileSync, writeFileSync } from 'node:fs'
import { withHosts } from './hosts/table.ts'
import type { Outcome } from './outcome.ts'
import { type PromiseId, type PromiseLine, promises } from './promises.ts'

const page = new URL('../../docs/guarantees.md', import.meta.url)
const saved = new URL('last.json', import.meta.url)
const begin = '<!-- Written by `npm run prove -- --save`. -->'
const end = '<!-- end -->'

/** The last passed outcome of each proof, by name. */
type Last = Record<string, Outcome>

const number = new Intl.NumberFormat('en')

function counts({ name, status, counts, mode, started }: Outcome): string {
  const parts = Object.entries(counts).map(
    ([what, count]) => `${number.format(count as number)} ${words[what] ?? what}`,
  )
  return `${name}: ${status === 'skipped' ? 'skipped' : parts.join(', ')} (${mode}, ${started.slice(0, 10)})`
}

const words: Record<string, string> = { inFlight: 'lost in flight', twice: 'executed twice' }

/** The generated part of docs/guarantees.md: a section for each promise. */
export function render(last: Last): string {
  const sections = (Object.entries(promises) as [PromiseId, PromiseLine][]).map(([id, line]) => {
    const proofs = Object.values(last).filter(({ promise }) => promise === id)
    const shown = [
      ...proofs.map((outcome) => `- [${outcome.file}](../test/prove/${outcome.file}), ${counts(outcome)}`),
      ...(line.tests ?? []).map((test) => {
        const [file = '', title] = test.split(' › ')
        return `- [${file.split('/').pop()}](../${file}), ${title}`
      }),
    ]
    return [
      `### ${id}`,
      `> ${line.wording} ([${line.page}](${line.page.startsWith('docs/') ? line.page.slice(5) : `../${line.page}`}))`,
      `**Under:** ${line.under}.  \n**Cost to a client at worst:** ${line.cost}.`,
      shown.join('\n'),
    ].join('\n\n')
  })
  return sections.join('\n\n')
}

/** docs/guarantees.md as it should be. */
export function expectedPage(): { text: string; expected: string } {
  const text = readFileSync(page, 'utf8')
  const last = JSON.parse(readFileSync(saved, 'utf8')) as Last
  const [head, tail] = [text.split(begin)[0], text.split(end)[1]]
  return { text, expected: withHosts(`${head}${begin}\n\n${render(last)}\n\n${end}${tail}`) }
}

/** Keeps the counts of what passed or was skipped, and writes the page. */
export function writePage(outcomes: readonly Outcome[]): void {
  const last = JSON.parse(readFileSync(saved, 'utf8')) as Last
  for (const outcome of outcomes) if (outcome.status === 'passed') last[outcome.name] = outcome
  const sorted = Object.fromEntries(Object.entries(last).sort(([a], [b]) => a.localeCompare(b)))
  writeFileSync(saved, `${JSON.stringify(sorted, null, 2)}\n`)
  writeFileSync(page, expectedPage().expected)
}
