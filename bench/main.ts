import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { formatTable, Output } from '../src/cli/output.ts'
import { stopAll } from '../src/cli/up/child.ts'
import { Machine } from './machine.ts'
import { buildProduct, installPeers } from './prepare.ts'
import { hasProc } from './processes.ts'
import { circumstances, markdown, reasons, table, verdictTable, withTable } from './report.ts'
import { failed, type Outcome, runScenario, stepsOf } from './run.ts'
import type { Scenario } from './scenario.ts'

const usage = `npm run bench [-- NAME… options]

Measures this project and its peers in rotation, and reports which bars are met. Without a name: all, and the results are
written to bench/RESULTS.md and bench/results.json.

  --list          Show the names
  --quick         Two rounds of one second: to see that it works, not what comes out
  --rounds N      Rounds, default 5
  --seconds N     Length of one round of one subject, default 3
  --save          Put the results of the named scenarios into the written ones, too
  --no-build      Measure the last build of the product
  --json          Print the results as JSON
  --help          Show this help`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    list: { type: 'boolean' },
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    save: { type: 'boolean', default: false },
    'no-build': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
})
const out = new Output({ json: values.json })
const here = (file: string): URL => new URL(file, import.meta.url)

async function main(): Promise<number> {
  const names = readdirSync(here('scenarios/'))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -3))
  if (values.help) return say(usage)
  if (values.list) return say(names.join('\n'))
  const unknown = positionals.filter((name) => !names.includes(name))
  if (unknown.length > 0) throw new Error(`there is no ${unknown.join(', ')}; there are ${names.join(', ')}`)
  const rounds = count('rounds', values.rounds, values.quick ? 2 : 5)
  const seconds = count('seconds', values.seconds, values.quick ? 1 : 3)

  if (!hasProc) out.note('CPU time per request and memory cannot be measured here: they are read from Linux’s /proc')
  installPeers((text) => out.note(text))
  if (!values['no-build']) buildProduct()
  const scenarios: Scenario[] = []
  for (const name of positionals.length > 0 ? positionals : names) {
    scenarios.push(((await import(`./scenarios/${name}.ts`)) as { default: Scenario }).default)
  }
  const outcomes = await measure(scenarios, rounds, seconds)
  const all = positionals.length === 0
  if ((all || values.save) && !values.quick) await save(outcomes, all)
  else out.note('nothing written: that is done by a full run of all, or with --save')
  const verdicts = outcomes.flatMap(({ verdicts }) => verdicts)
  return verdicts.every(({ passed }) => passed === true) ? 0 : 1
}

async function measure(scenarios: readonly Scenario[], rounds: number, seconds: number): Promise<Outcome[]> {
  const machine = new Machine()
  if (!machine.pinned) out.note('programs cannot be pinned to cores here (taskset, two cores): the ratios are rough')
  const total = scenarios.reduce((sum, scenario) => sum + stepsOf(scenario, rounds), 0)
  const progress = out.progress('measuring', total)
  const outcomes: Outcome[] = []
  let begun = false
  try {
    for (const scenario of scenarios) {
      const step = (what: string): void => {
        if (begun) progress.step()
        begun = true
        progress.label(what)
      }
      const outcome = await runScenario(scenario, machine, { rounds, seconds, step }).catch((error: Error) =>
        failed(scenario, { rounds, seconds }, error),
      )
      outcomes.push(outcome)
      out.line(`\n${scenario.title}`)
      print(table(scenario, outcome))
      out.line()
      print(verdictTable(outcome.verdicts))
      for (const reason of reasons(outcome.verdicts)) out.line(`missed: ${reason}`)
    }
    progress.done('measured')
  } finally {
    machine.close()
    await stopAll()
  }
  out.result({ on: circumstances(machine.pinned), outcomes })
  return outcomes
}

function print([head = [], ...rows]: readonly string[][]): void {
  // Headings repeat (the empty one), so that columns go by number.
  const keys = head.map((_, i) => String(i))
  const record = (cells: readonly string[]): Record<string, string> =>
    Object.fromEntries(cells.map((cell, i) => [String(i), cell]))
  const [, ...lines] = formatTable([record(head), ...rows.map(record)], keys)
  for (const line of lines) out.line(line)
}

/** Both files hold every scenario's last results; a full run replaces all. */
async function save(outcomes: readonly Outcome[], all: boolean): Promise<void> {
  const file = here('results.json')
  const before =
    !all && existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { outcomes: Outcome[] }) : undefined
  const kept = (before?.outcomes ?? []).filter(({ scenario }) => !outcomes.some((fresh) => fresh.scenario === scenario))
  const on = circumstances(new Machine().pinned)
  const fresh = outcomes.map((outcome) => ({ ...outcome, on: { date: on.date, processors: on.processors } }))
  const joined = [...kept, ...fresh].sort((a, b) => (a.scenario < b.scenario ? -1 : 1))
  const run: { scenario: Scenario; outcome: Outcome }[] = []
  for (const outcome of joined) {
    const { default: scenario } = (await import(`./scenarios/${outcome.scenario}.ts`)) as { default: Scenario }
    run.push({ scenario, outcome })
  }
  writeFileSync(file, `${JSON.stringify({ on, outcomes: joined }, null, 2)}\n`)
  writeFileSync(here('RESULTS.md'), markdown(run, on))
  out.note('written: bench/RESULTS.md, bench/results.json')
  for (const { scenario, outcome } of run) {
    if (!scenario.page) continue
    const page = here(`../${scenario.page.file}`)
    writeFileSync(page, withTable(readFileSync(page, 'utf8'), scenario, outcome, scenario.page.over))
    out.note(`written: ${scenario.page.file}`)
  }
}

function say(text: string): number {
  out.line(text)
  return 0
}

function count(name: string, given: string | undefined, otherwise: number): number {
  const value = given === undefined ? otherwise : Number(given)
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} must be a whole number from 1`)
  return value
}

try {
  process.exitCode = await main()
} catch (error) {
  out.error((error as Error).message)
  process.exitCode = 2
} finally {
  out.close()
}
