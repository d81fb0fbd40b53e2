// Mutation testing: changes the source in small ways, one at a time, and tells which changes no test notices.
//
//   npm run mutate -- src/state/session              all mutants of a folder or file
//     --sample 30 --seed 1                           30 of them at random, the same for the same seed
//     --budget 20                                    seconds of tests per mutant at most, the fastest tests first
//     --workers 2                                    mutants at a time
//     --list                                         print the mutants and run nothing
//     --json                                         one line of JSON per mutant
//     --save                                         write the row of the module in bench/MUTATION.md
//
// syntax.js parses, mutants.js makes the mutants, tests.js chooses the tests, workspace.js runs them in a copy of the project.
import { globSync, readFileSync, statSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { parseArgs } from 'node:util'
import { mutantsOf } from './mutants.js'
import { equivalents, saveRow, score } from './table.js'
import { testFinder } from './tests.js'
import { Workspace } from './workspace.js'

/** Test files per source, at most. */
const maxTests = 30
/** A mutant has this much longer than three times the unmutated run, ms. */
const extraMs = 10_000

const flag = { type: 'boolean', default: false }
const { values, positionals } = argumentsOf({
  allowPositionals: true,
  options: {
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    budget: { type: 'string', default: '20' },
    workers: { type: 'string', default: '1' },
    list: flag,
    json: flag,
    save: flag,
  },
})
const root = process.cwd()
const module = normalize(positionals[0] ?? '').replace(/\/$/, '')
if (positionals.length !== 1 || !module.startsWith('src')) fail('expected a folder or file in src')
const [sample, seed, budgetMs, workers] = [
  wholeNumber('sample', values.sample ?? `${Number.MAX_SAFE_INTEGER}`),
  wholeNumber('seed', values.seed),
  wholeNumber('budget', values.budget) * 1000,
  wholeNumber('workers', values.workers),
]

const path = join(root, module)
const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? fail(`${module} does not exist`)
const files = isFolder ? globSync(`${module}/**/*.ts`, { cwd: root, exclude: ['**/generated/**'] }).sort() : [module]
const known = equivalents(root)
const all = files.flatMap((file) => {
  const mutants = mutantsOf(file, readFileSync(join(root, file), 'utf8'))
  for (const { mutation } of known.stale(file, mutants))
    note(`the list of equivalent mutants is out of date: ${file}: ${mutation}`)
  return mutants
})
const chosen = pick(all, sample, seed)

if (values.list) for (const { file, line, mutation } of chosen) console.log(`${file}:${line} ${mutation}`)
else await main()

async function main() {
  const spaces = Array.from({ length: Math.max(1, workers) }, () => new Workspace(root))
  const close = () => {
    for (const space of spaces.splice(0)) space.close()
  }
  process.on('exit', close)
  for (const [name, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ])
    process.on(name, () => process.exit(code))
  const suites = await suitesOf(new Set(chosen.map(({ file }) => file)), spaces[0])
  const results = new Array(chosen.length)
  let next = 0
  await Promise.all(
    spaces.map(async (space) => {
      while (next < chosen.length) {
        const index = next++
        const mutant = chosen[index]
        const outcome = known.has(mutant)
          ? { result: 'equivalent' }
          : await judge(mutant, suites.get(mutant.file), space)
        results[index] = { ...mutant, ...outcome }
        note(`${index + 1}/${chosen.length} ${outcome.result} ${mutant.file}:${mutant.line} ${mutant.mutation}`)
      }
    }),
  )
  close()
  report(results)
}

/**
 * Test files of each source with the time of their unmutated run. Those with the name of the source run first. Of the others that
 * are close, the fastest follow, as many as fit into the budget: most mutants die in a fast test, and a slow one would take the
 * place of many.
 */
async function suitesOf(sources, space) {
  const testsOf = testFinder(root)
  const times = new Map()
  const suites = new Map()
  for (const file of sources) {
    const measured = []
    let measuredMs = 0
    for (const { test, isNear, isOwn } of testsOf(file).slice(0, maxTests)) {
      // The rest is far away.
      if (measuredMs > 2 * budgetMs && !isNear) break
      if (!times.has(test)) {
        const { result, ms } = await space.run(test, budgetMs)
        if (result !== 'passed') note(`left out: ${test}: ${result === 'timeout' ? 'slow' : 'fails without a mutant'}`)
        times.set(test, result === 'passed' ? ms : Number.POSITIVE_INFINITY)
      }
      const ms = times.get(test)
      measured.push({ test, ms, isOwn })
      measuredMs += Math.min(ms, budgetMs)
    }
    const suite = []
    let leftMs = budgetMs
    for (const { test, ms } of measured.sort((a, b) => b.isOwn - a.isOwn || a.ms - b.ms)) {
      if (ms <= leftMs) {
        suite.push({ test, ms })
        leftMs -= ms
      } else if (ms <= budgetMs) note(`beyond the budget: ${test} for ${file}`)
    }
    if (suite.length === 0) note(`no test for ${file}`)
    suites.set(file, suite)
  }
  return suites
}

async function judge(mutant, suite, space) {
  space.apply(mutant)
  try {
    for (const { test, ms } of suite) {
      const { result } = await space.run(test, 3 * ms + extraMs)
      if (result !== 'passed') return { result: result === 'timeout' ? 'timeout' : 'killed', test }
    }
    return { result: 'survived' }
  } finally {
    space.restore()
  }
}

function report(results) {
  const count = (...names) => results.filter(({ result }) => names.includes(result)).length
  const [killed, timeout] = [count('killed', 'timeout'), count('timeout')]
  const [survived, equivalent] = [count('survived'), count('equivalent')]
  for (const mutant of results) {
    const { file, line, mutation, result, test } = mutant
    if (values.json) console.log(JSON.stringify({ file, line, mutation, result, test, diff: diffOf(mutant) }))
    else if (result === 'survived') console.log(`\n${file}:${line} ${mutation}\n${diffOf(mutant)}`)
  }
  const row = { module, killed, timeout, survived, equivalent, all: all.length, seed, budget: budgetMs / 1000 }
  if (values.json) console.log(JSON.stringify(row))
  else {
    const counts = `${killed} killed (${timeout} by the time limit), ${survived} survived, ${equivalent} equivalent`
    console.log(`\n${module}: ${score(killed, survived)}: ${counts}; ${results.length} of ${all.length}, seed ${seed}`)
  }
  if (values.save) saveRow(root, { ...row, date: new Date().toISOString().slice(0, 10) })
}

/** The lines of the mutant, before and after. */
function diffOf({ file, start, end, replacement }) {
  const source = readFileSync(join(root, file), 'utf8')
  const from = source.lastIndexOf('\n', start - 1) + 1
  const to = source.indexOf('\n', end)
  const marked = (sign, text) => text.split('\n').map((line) => `${sign} ${line}`)
  const before = source.slice(from, to)
  const after = source.slice(from, start) + replacement + source.slice(end, to)
  return [...marked('-', before), ...marked('+', after)].join('\n')
}

/** `count` of `items` in their order, chosen by a generator with a seed (mulberry32). */
function pick(items, count, seed) {
  let state = seed
  const random = () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const order = items.map((item, index) => ({ item, index, at: random() })).sort((a, b) => a.at - b.at)
  return order
    .slice(0, count)
    .sort((a, b) => a.index - b.index)
    .map(({ item }) => item)
}

function argumentsOf(config) {
  try {
    return parseArgs(config)
  } catch (error) {
    return fail(error.message)
  }
}

function wholeNumber(name, text) {
  const value = Number(text)
  return Number.isSafeInteger(value) && value >= 0 ? value : fail(`--${name} must be a whole number`)
}

/** Progress goes to stderr, results to stdout. */
function note(text) {
  process.stderr.write(`${text}\n`)
}

function fail(text) {
  note(`mutate: ${text}`)
  process.exit(2)
}
