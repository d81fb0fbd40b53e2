import type { Mode, Outcome } from './outcome.ts'
import { promises } from './promises.ts'

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const htmlText = (text: string): string => text.replace(/[&<>"]/g, (character) => entities[character] as string)
const number = new Intl.NumberFormat('en')

function row(outcome: Outcome): string {
  const { promise, name, status, reason, counts, notes, durationMs } = outcome
  const listed = Object.entries(counts).map(([what, count]) => `${number.format(count as number)} ${what}`)
  const cells = [
    promise === undefined ? '' : promises[promise].wording,
    name,
    status,
    listed.join(', '),
    [...(reason === undefined ? [] : [reason]), ...notes].join('\n'),
    `${number.format(Math.round(durationMs / 1000))} s`,
  ]
  return `<tr class="${status}">${cells.map((cell) => `<td>${htmlText(cell)}</td>`).join('')}</tr>`
}

/** The report of a run as one HTML page. */
export function report(
  run: { mode: Mode; seed: number; started: string; machine: string },
  outcomes: readonly Outcome[],
): string {
  const sum = (name: string): string =>
    number.format(outcomes.reduce((total, { counts }) => total + (counts[name] ?? 0), 0))
  const failed = outcomes.filter(({ status }) => status === 'failed').length
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Proofs of fastify-fleet</title>
<style>
  :root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
  body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem }
  table { border-collapse: collapse; width: 100% }
  th, td { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); padding: .4rem .6rem; text-align: left; vertical-align: top; white-space: pre-line }
  .failed td:nth-child(3) { color: #d33; font-weight: bold }
  .skipped { opacity: .7 }
</style>
<h1>${failed === 0 ? 'Every proof passed' : `${failed} of ${outcomes.length} proofs failed`}</h1>
<p>${sum('requests')} requests: ${sum('failed')} failed, ${sum('inFlight')} lost in flight, ${sum('twice')} executed twice.
<p>${htmlText(`${run.mode} run, seed ${run.seed}, started ${run.started}, on ${run.machine}`)}
<table>
<thead><tr><th>Promise<th>Proof<th>Outcome<th>Counts<th>Notes<th>Time</thead>
<tbody>
${outcomes.map(row).join('\n')}
</tbody>
</table>
`
}
