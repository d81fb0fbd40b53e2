// The table of bench/MUTATION.md, one row per module, and the list of equivalent mutants.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const page = 'bench/MUTATION.md'
const list = 'bench/mutants/equivalent.json'

const columns = [
  'module',
  'score',
  'killed',
  'by time limit',
  'survived',
  'equivalent',
  'sample',
  'seed',
  'budget',
  'date',
]
const head = `| ${columns.join(' | ')} |\n|---|${'--:|'.repeat(columns.length - 2)}---|\n`
const about = `# Mutation testing

\`npm run mutate -- src/state/session --save\` writes the row of a module; see \`test/README.md\`.
The score is the share of killed mutants among those that are not equivalent. *Sample* is the number of mutants that ran of
all that the module has. *Budget* is the time of tests per mutant: on a busy machine fewer tests fit into it, and the score is
lower than with all of them. Scores compare only with a budget that leaves no close test out; the program lists those left out.

`

/** Replaces the row of the module, or adds it in the order of the modules. */
export function saveRow(root, { module, killed, timeout, survived, equivalent, all, seed, budget, date }) {
  const path = join(root, page)
  const text = existsSync(path) ? readFileSync(path, 'utf8') : about + head
  const start = text.indexOf(head) + head.length
  const rest = text.slice(start)
  const rows = rest.match(/^(\|.*\n)*/)[0]
  const sample = killed + survived + equivalent
  const cells = [`\`${module}\``, score(killed, survived), killed, timeout, survived, equivalent]
  const row = `| ${[...cells, sample === all ? `all ${all}` : `${sample} of ${all}`, seed, `${budget} s`, date].join(' | ')} |`
  const others = rows.split('\n').filter((line) => line && !line.startsWith(`| \`${module}\` |`))
  const sorted = [...others, row].sort().map((line) => `${line}\n`)
  writeFileSync(path, text.slice(0, start) + sorted.join('') + rest.slice(rows.length))
}

export const score = (killed, survived) =>
  killed + survived === 0 ? '–' : `${Math.round((100 * killed) / (killed + survived))} %`

/**
 * Mutants that no test can notice: `{ file, text, mutation, reason }`, the first three as `mutantsOf` returns them.
 *
 * @returns whether a mutant is in the list, and the entries of a file that are not among its mutants
 */
export function equivalents(root) {
  const path = join(root, list)
  const entries = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : []
  for (const entry of entries)
    if (!entry.reason) throw new Error(`${list}: an entry of ${entry.file} has no reason: ${entry.mutation}`)
  const isSame = (a, b) => a.file === b.file && a.text === b.text && a.mutation === b.mutation
  return {
    has: (mutant) => entries.some((entry) => isSame(entry, mutant)),
    stale: (file, mutants) =>
      entries.filter((entry) => entry.file === file && !mutants.some((mutant) => isSame(entry, mutant))),
  }
}
