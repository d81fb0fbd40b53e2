import assert from 'node:assert/strict'
import { execFile, fork, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { FleetError } from '../../src/base/errors.ts'
import { type Command, defineCommand, type Values, type Verbs } from '../../src/cli/args.ts'
import { dispatch } from '../../src/cli/dispatch.ts'
import { nearest } from '../../src/cli/nearest.ts'
import { Output } from '../../src/cli/output.ts'
import { until } from '../helpers/until.ts'

const options = {
  port: { type: 'string', default: '8080', describe: 'PORT to listen on' },
  target: { type: 'string', short: 't', multiple: true, describe: 'URL of a target' },
  dry: { type: 'boolean', describe: 'Only say what would be done' },
} as const
let seen: { values: Values<typeof options>; positionals: readonly string[]; json: boolean } | undefined
let fail: unknown

const sail: Command = defineCommand({
  name: 'sail',
  summary: 'Sail somewhere',
  usage: 'fleet sail PLACE [options]',
  options,
  async run({ values, positionals, out }) {
    out.describeFailure({ plan: ['east'] })
    if (fail) throw fail
    seen = { values, positionals, json: out.json }
    out.line('sailing')
    out.result({ sailing: true })
    return 0
  },
})
const verbs: Verbs = { sail: async () => ({ default: sail }) }

async function run(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const said = { stdout: '', stderr: '' }
  const stream = (name: 'stdout' | 'stderr') => ({ write: (text: string) => (said[name] += text) })
  const out = new Output({ stdout: stream('stdout'), stderr: stream('stderr') })
  return { code: await dispatch(verbs, argv, out), ...said }
}

test('a verb receives its options, defaults and positionals', async () => {
  const { code, stdout } = await run('sail', 'north', '-t', 'a', '--target', 'b', '--dry')
  assert.equal(code, 0)
  assert.equal(stdout, 'sailing\n')
  assert.deepEqual({ ...seen?.values }, { port: '8080', target: ['a', 'b'], dry: true })
  assert.deepEqual(seen?.positionals, ['north'])
})

test('with --json, stdout has only the result', async () => {
  assert.equal((await run('sail', '--json')).stdout, '{"sailing":true}\n')
  assert.equal(seen?.json, true)
})

test('help lists the verbs, and the help of a verb its options', async () => {
  for (const argv of [['--help'], ['-h'], ['help']]) {
    const { code, stdout } = await run(...argv)
    assert.equal(code, 0)
    assert.match(stdout, /sail {2}Sail somewhere/)
  }
  for (const argv of [
    ['sail', '--help'],
    ['help', 'sail'],
  ]) {
    const { code, stdout } = await run(...argv)
    assert.equal(code, 0)
    assert.match(stdout, /^fleet sail PLACE \[options\]\n/)
    assert.match(stdout, /--port PORT +to listen on \(default 8080\)/)
    assert.match(stdout, /-t, --target URL +of a target; may be repeated/)
    assert.match(stdout, /--json/)
  }
})

test('help is printed with --json, too', async () => {
  assert.match((await run('sail', '--help', '--json')).stdout, /^fleet sail PLACE \[options\]\n/)
})

test('a verb that cannot be loaded does not hide the others', async () => {
  const said: string[] = []
  const out = new Output({ stdout: { write: (text: string) => said.push(text) } })
  const broken = async () => Promise.reject(new Error("Cannot find package 'pg'\nimported from"))
  assert.equal(await dispatch({ ...verbs, migrate: broken }, ['--help'], out), 0)
  assert.match(said.join(''), / {2}sail {5}Sail somewhere\n {2}migrate {2}\(Cannot find package 'pg'\)\n/)
})

test('an invalid command line prints one line and exits with 2', async () => {
  const cases: [string[], RegExp][] = [
    [['fly'], /^error FLEET_ERR_USAGE invalid command line: unknown verb "fly"; verbs: sail; see `fleet --help`\n$/],
    [['constructor'], /unknown verb "constructor"/],
    [['--fly'], /unknown option "--fly"/],
    [['sail', '--fly'], /^error FLEET_ERR_USAGE .*'--fly'; see `fleet sail --help`\n$/],
    [['sail', '--port'], /^error FLEET_ERR_USAGE .*'--port <value>' argument missing; see `fleet sail --help`\n$/],
    [['sail', '--dry=1'], /^error FLEET_ERR_USAGE .*'--dry'.*\n$/],
  ]
  for (const [argv, message] of cases) {
    const { code, stdout, stderr } = await run(...argv)
    assert.equal(code, 2, argv.join(' '))
    assert.equal(stdout, '')
    assert.match(stderr, message)
  }
  const { code, stderr } = await run()
  assert.equal(code, 2)
  assert.match(stderr, /fleet VERB/)
})

test('suggests the verb or option that a mistyped one stands for', async () => {
  const cases: [string[], RegExp][] = [
    [['sial'], /unknown verb "sial" \(did you mean sail\?\); verbs: sail;/],
    [['hlep'], /unknown verb "hlep" \(did you mean help\?\);/],
    [['sail', '--traget', 'x'], /'--traget' \(did you mean --target\?\); see `fleet sail --help`\n$/],
    [['sail', '--jsn'], /'--jsn' \(did you mean --json\?\);/],
    [['sail', '--elephant'], /'--elephant'; see/],
    [['x'.repeat(10_000)], /unknown verb "x+"; verbs/],
  ]
  for (const [argv, message] of cases) {
    const { code, stderr } = await run(...argv)
    assert.equal(code, 2)
    assert.match(stderr, message)
  }
  assert.equal(nearest('dtart', ['stat', 'start']), 'start')
  assert.equal(nearest('', ['start']), undefined)
  assert.equal(nearest('ps', []), undefined)
})

test('with --json, an error is a document on stdout too, whatever fails', async () => {
  const error = async (...argv: string[]) => {
    const { code, stdout, stderr } = await run(...argv)
    assert.match(stderr, /^error /)
    assert.match(stdout, /^[^\n]+\n$/)
    return { exit: code, ...(JSON.parse(stdout) as { error: { code: string; message: string } }) }
  }
  for (const argv of [['fly'], ['sail', '--fly'], ['--fly'], ['sail', '--port']]) {
    const said = await error(...argv.toSpliced(1, 0, '--json'))
    assert.deepEqual([said.exit, said.error.code], [2, 'FLEET_ERR_USAGE'])
  }
  assert.equal((await run('sail', '--fly', '--', '--json')).stdout, '', 'arguments of a program are not options')
  try {
    fail = new FleetError('FLEET_ERR_INSTANCE_UNKNOWN', 'no instance\n  "x"')
    const known = { code: 'FLEET_ERR_INSTANCE_UNKNOWN', message: 'unknown instance: no instance "x"' }
    assert.deepEqual(await error('sail', '--json'), { exit: 1, error: known, plan: ['east'] })
    fail = new TypeError('a defect')
    const defect = { exit: 1, error: { code: null, message: 'a defect' }, plan: ['east'] }
    assert.deepEqual(await error('sail', '--json'), defect)
  } finally {
    fail = undefined
  }
})

test('a FleetError prints a line with its code, another error its stack', async () => {
  try {
    fail = new FleetError('FLEET_ERR_INSTANCE_UNKNOWN', 'no instance\n  "x"')
    assert.deepEqual(await run('sail'), {
      code: 1,
      stdout: '',
      stderr: 'error FLEET_ERR_INSTANCE_UNKNOWN unknown instance: no instance "x"\n',
    })
    fail = new FleetError('FLEET_ERR_ENV_INVALID', 'PORT')
    assert.equal((await run('sail')).code, 2)
    fail = new TypeError('a defect')
    const { code, stderr } = await run('sail')
    assert.equal(code, 1)
    assert.match(stderr, /`fleet sail` ended unexpectedly\nTypeError: a defect\n {4}at /)
  } finally {
    fail = undefined
  }
})

test('exits with 2 if it cannot run, and with 1 for every other failure', async () => {
  const cannotRun = ['USAGE', 'UNREACHABLE', 'NOT_OPERATOR', 'ENV_INVALID', 'OPTION_INVALID', 'OPTION_UNKNOWN']
  try {
    for (const [names, expected] of [
      [[...cannotRun, 'MEMORY_IN_WORKERS'], 2],
      [['SERVICE_FAILED', 'PORT_TAKEN', 'DEPLOY_FAILED', 'WORKER_NOT_READY', 'PROGRAM_MISSING'], 1],
    ] as const) {
      for (const name of names) {
        fail = new FleetError(`FLEET_ERR_${name}` as 'FLEET_ERR_USAGE', 'x')
        assert.equal((await run('sail')).code, expected, name)
      }
    }
  } finally {
    fail = undefined
  }
})

test('a verb that fails leaves no unfinished progress on the terminal', async () => {
  const said: string[] = []
  const stderr = { isTTY: true, columns: 80, write: (more: string) => said.push(more) }
  const out = new Output({ stdout: { write: () => {} }, stderr })
  const drift: Command = defineCommand({
    name: 'drift',
    summary: 'Drift',
    usage: 'fleet drift',
    options: {},
    run: async ({ out }) => {
      out.progress('drifting')
      throw new FleetError('FLEET_ERR_SERVICE_FAILED', 'no wind')
    },
  })
  assert.equal(await dispatch({ drift: async () => ({ default: drift }) }, ['drift'], out), 1)
  assert.match(said.join(''), /drifting/)
  assert.ok(said.join('').endsWith('\u001b[1A\u001b[0J'))
})

test('the program ends quietly when its output is not read to the end', async () => {
  const child = spawn(process.execPath, ['src/cli/main.ts', '--help'], { stdio: ['ignore', 'pipe', 'pipe'] })
  child.stdout.destroy()
  const [stderr, exit] = await Promise.all([text(child.stderr), once(child, 'exit')])
  assert.deepEqual([stderr, exit], ['', [0, null]])
})

test('the program fails if its output cannot be written', (t) => {
  if (!existsSync('/dev/full')) return t.skip('there is no /dev/full')
  const full = openSync('/dev/full', 'w')
  t.after(() => closeSync(full))
  const { status, stderr } = spawnSync(process.execPath, ['src/cli/main.ts', '--version'], {
    stdio: ['ignore', full, 'pipe'],
    encoding: 'utf8',
  })
  assert.notEqual(status, 0)
  assert.match(stderr, /ENOSPC/)
})

test('the program prints --version, sets exit codes, and ends with a channel to its parent', async (t) => {
  const fleet = (...args: string[]) => promisify(execFile)(process.execPath, ['src/cli/main.ts', ...args])
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
  const execArgv = ['--import', 'data:text/javascript,process.on("message", () => {})']
  const child = fork('src/cli/main.ts', ['--version'], { silent: true, execArgv })
  t.after(() => child.kill())
  assert.ok(child.stdout)
  const stdout = text(child.stdout)
  await until(() => child.exitCode !== null, { what: 'the end of the program' })
  assert.deepEqual([await stdout, child.exitCode], [`${version}\n`, 0])
  assert.equal((await run('-v')).stdout, `${version}\n`)
  await assert.rejects(fleet('no-such-verb'), { code: 2 })
})
