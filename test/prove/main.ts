import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, release, totalmem } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { type Mode, type Outcome, outcomes } from './outcome.ts'
import { lastOutcomes, proofs, writePage } from './page.ts'
import { report } from './report.ts'
import { canContain } from './titles.ts'

const usage = `npm run prove -- [--quick | --full] [options]

Runs the proofs of docs/guarantees.md against real programs, and accounts for every request.

  --quick        a few rounds of each proof, for CI (default)
  --full         100 rolling restarts for each load balancer, faults at random, several hosts, an hour of load
  --only TEXT    only the proofs whose file or name contains TEXT
  --jobs N       files of proofs to run at once, 1 to 8; if several, each has its own log in FOLDER (default: 1);
                 an hour of load, the compose file, and a thousand instances count as two
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
    jobs: { type: 'string', default: '1' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    out: { type: 'string', default: 'prove-report' },
    resume: { type: 'boolean' },
    save: { type: 'boolean' },
    list: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
})
const out = resolve(values.out)
const results = join(out, 'results.jsonl')
const jobs = Number(values.jobs)
let stopped = false
const folder = import.meta.dirname
const titles = proofs()
const files = [...titles.keys()]
/** The names of the proofs in a file; templates have `*` for what they insert. */
const namesIn = (file: string): string[] => (titles.get(file) ?? []).map(({ title }) => title)
const logOf = (file: string): string => `${basename(file, '.prove.ts')}.log`

async function main(): Promise<number> {
  const run = begin()
  console.log(`${run.mode} run, seed ${run.seed}, into ${out}`)
  const chosen = files.filter(
    (file) => file.includes(run.only) || namesIn(file).some((name) => canContain(name, run.only)),
  )
  if (jobs > 1) longestFirst(chosen)
  let free = jobs
  const running = new Set<Promise<void>>()
  while (chosen.length > 0 && !stopped) {
    const next = chosen.find((file) => placesOf(file) <= free)
    if (next === undefined) {
      await Promise.race(running)
      continue
    }
    chosen.splice(chosen.indexOf(next), 1)
    free -= placesOf(next)
    const proving = proveFile(next, run).finally(() => {
      free += placesOf(next)
      running.delete(proving)
    })
    running.add(proving)
  }
  await Promise.all(running)
  if (stopped) return 130
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
  for (const name of ['run.json', 'results.jsonl', 'report.html', ...files.map(logOf)])
    rmSync(join(out, name), { force: true })
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

/** Sorts files by the time that their proofs took when they passed last, so that no long one is left alone at the end. */
function longestFirst(files: string[]): void {
  const took = Map.groupBy(lastOutcomes(), ({ file }) => file)
  const ms = (file: string): number => (took.get(file) ?? []).reduce((sum, { durationMs }) => sum + durationMs, 0)
  files.sort((a, b) => ms(b) * placesOf(b) - ms(a) * placesOf(a))
}

/** Files that count as two of `--jobs`: an hour of even load, a dozen containers, a thousand instances. */
const wide: ReadonlySet<string> = new Set(['long.prove.ts', 'compose.prove.ts', 'large.prove.ts'])
const placesOf = (file: string): number => Math.min(jobs, wide.has(file) ? 2 : 1)

/** Runs the proofs of a file, and records it as failed if it ends before they do. */
async function proveFile(file: string, run: Run): Promise<void> {
  const code = await runFile(file, run)
  const hasFailed = outcomes(results).some((past) => past.file === file && past.status === 'failed')
  if (code !== 0 && !stopped && !hasFailed) appendFileSync(results, `${JSON.stringify(crashed(file, code, run))}\n`)
}

async function runFile(file: string, { mode, seed, only }: Run): Promise<number> {
  const pattern = file.includes(only) ? [] : [`--test-name-pattern=${only.replace(/[^\w ]/g, '\\$&')}`]
  console.log(`\n${basename(file, '.prove.ts')}`)
  // The output of several at once would be mixed.
  const log = jobs > 1 ? openSync(join(out, logOf(file)), 'a') : 'inherit'
  // A handle that a proof has left open must not hold up a run of hours.
  const options = ['--test', '--test-force-exit', '--test-reporter=spec', ...pattern]
  const child = spawn(process.execPath, [...options, join(folder, file)], {
    env: { ...process.env, PROVE_MODE: mode, PROVE_SEED: String(seed), PROVE_OUT: out },
    stdio: ['ignore', log, log],
  })
  const stop = (signal: NodeJS.Signals): void => {
    stopped = true
    child.kill(signal)
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop)
  const [code] = (await once(child, 'exit')) as [number | null]
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, stop)
  if (typeof log === 'number') closeSync(log)
  if (code !== 0) console.log(`${file} failed`)
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
else if (!Number.isSafeInteger(Number(values.seed)) || !/^[1-8]$/.test(values.jobs) || (values.quick && values.full)) {
  console.error(usage)
  process.exitCode = 2
} else process.exitCode = await main()
