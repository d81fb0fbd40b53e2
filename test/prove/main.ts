import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, release, totalmem } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { type Mode, type Outcome, outcomes } from './outcome.ts'
import { proofs, writePage } from './page.ts'
import { report } from './report.ts'
import { canContain } from './titles.ts'

const usage = `npm run prove -- [--quick | --full] [options]

Runs the proofs of docs/guarantees.md against real programs, and accounts for every request.

  --quick        a few rounds of each proof, for CI (default)
  --full         100 rolling restarts for each load balancer, faults at random, several hosts, an hour of load
  --only TEXT    only the proofs whose file or name contains TEXT
  --seed N       the order of random faults (default: a random one, which is printed)
  --out FOLDER   for results.jsonl and report.html (default: prove-report); those of an earlier run are replaced
  --resume       continues a run that was interrupted, with its mode and seed; what passed is not repeated
  --save         also writes the counts into docs/guarantees.md
  --list         prints the names of the proofs`

interface Run {
  mode: Mode
  seed: number
  only: string
  started: string
  machine: string
}

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean' },
    full: { type: 'boolean' },
    only: { type: 'string', default: '' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    out: { type: 'string', default: 'prove-report' },
    resume: { type: 'boolean' },
    save: { type: 'boolean' },
    list: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
})
const out = resolve(values.out)
let stopped = false
const folder = import.meta.dirname
const titles = proofs()
const files = [...titles.keys()]
/** The names of the proofs in a file; templates have `*` for what they insert. */
const namesIn = (file: string): string[] => (titles.get(file) ?? []).map(({ title }) => title)

async function main(): Promise<number> {
  const run = begin()
  const results = join(out, 'results.jsonl')
  console.log(`${run.mode} run, seed ${run.seed}, into ${out}`)
  for (const file of files) {
    if (!file.includes(run.only) && !namesIn(file).some((name) => canContain(name, run.only))) continue
    const code = await runFile(file, run)
    if (stopped) return 130
    // A file that ends before its proofs do leaves no outcome of its own.
    if (code !== 0 && !outcomes(results).some(({ file: of, status }) => of === file && status === 'failed'))
      appendFileSync(results, `${JSON.stringify(crashed(file, code, run))}\n`)
  }
  // Of a repeated proof the last outcome counts.
  const last = [...new Map(outcomes(results).map((outcome) => [outcome.name, outcome])).values()]
  writeFileSync(join(out, 'report.html'), report(run, last))
  if (values.save) writePage(last)
  const count = (status: Outcome['status']): number => last.filter((outcome) => outcome.status === status).length
  const sum = (name: string): number => last.reduce((total, { counts }) => total + (counts[name] ?? 0), 0)
  for (const { name, status, reason } of last) if (status !== 'passed') console.log(`${status}: ${name}: ${reason}`)
  console.log(
    `\n${sum('requests')} requests, ${sum('failed')} failed, ${sum('twice')} executed twice; ${count('skipped')} skipped`,
  )
  console.log(`${count('passed')} passed, ${count('failed')} failed`)
  return last.length > 0 && count('failed') === 0 ? 0 : 1
}

function begin(): Run {
  const file = join(out, 'run.json')
  if (values.resume) return JSON.parse(readFileSync(file, 'utf8')) as Run
  mkdirSync(out, { recursive: true })
  for (const name of ['run.json', 'results.jsonl', 'report.html']) rmSync(join(out, name), { force: true })
  const run: Run = {
    mode: values.full ? 'full' : 'quick',
    seed: Number(values.seed),
    only: values.only,
    started: new Date().toISOString(),
    machine: `${availableParallelism()} CPUs, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node.js ${process.version}`,
  }
  writeFileSync(file, JSON.stringify(run))
  return run
}

const crashed = (file: string, code: number, { mode, seed }: Run): Outcome => ({
  file,
  name: file,
  promise: undefined,
  status: 'failed',
  reason: `ended with ${code} outside its proofs`,
  mode,
  seed,
  counts: {},
  notes: [],
  started: new Date().toISOString(),
  durationMs: 0,
})

async function runFile(file: string, { mode, seed, only }: Run): Promise<number> {
  console.log(`\n${basename(file, '.prove.ts')}`)
  const pattern = file.includes(only) ? [] : [`--test-name-pattern=${only.replace(/[^\w ]/g, '\\$&')}`]
  const child = spawn(process.execPath, ['--test', '--test-reporter=spec', ...pattern, join(folder, file)], {
    env: { ...process.env, PROVE_MODE: mode, PROVE_SEED: String(seed), PROVE_OUT: out },
    stdio: 'inherit',
  })
  const stop = (signal: NodeJS.Signals): void => {
    stopped = true
    child.kill(signal)
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop)
  const [code] = (await once(child, 'exit')) as [number | null]
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, stop)
  return code ?? 1
}

if (values.help) console.log(usage)
else if (values.list)
  for (const file of files)
    console.log(
      `${file}\n${namesIn(file)
        .map((name) => `  ${name}\n`)
        .join('')}`,
    )
else if (!Number.isSafeInteger(Number(values.seed)) || (values.quick && values.full)) {
  console.error(usage)
  process.exitCode = 2
} else process.exitCode = await main()
