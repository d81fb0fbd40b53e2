import assert from 'node:assert/strict'
import fs, { existsSync, mkdirSync, readFileSync, type StatSyncOptions, statSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import logs from '../../src/cli/commands/logs.ts'
import { dispatch } from '../../src/cli/dispatch.ts'
import { Output } from '../../src/cli/output.ts'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { LogReader } from '../../src/cli/up/log-reader.ts'
import { entryOf, fullFile, logFile, openRunLog, RunLog } from '../../src/cli/up/run-log.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { until } from '../helpers/until.ts'
import { runCommand, type Said } from './commands.ts'
import { fleetUp, main } from './up/apps.ts'
import '../helpers/cleanup.ts'

const at = new Date(2026, 0, 2, 3, 4, 5, 6).getTime()
const pino = (more: object): string => JSON.stringify({ level: 30, time: at, pid: 1, hostname: 'h', ...more })
const fail = (message: string): void => assert.fail(message)

/** A project with the logs of two runs, the second of which is the last one; in its folder. */
function inProject(): void {
  const folder = temporaryFolder('logs')
  mkdirSync(join(folder, 'src'))
  writeFileSync(join(folder, 'package.json'), '{}')
  process.chdir(join(folder, 'src'))
  for (const [port, lines] of [
    [9090, ['app-1-aaaa | other']],
    [
      8080,
      [
        `app-1-0947 | ${pino({ reqId: 'r1', msg: 'incoming request' })}`,
        'app-2-40bd | plain | text',
        `app-2-40bd | ${pino({ level: 40, reqId: 'r2', msg: 'slow' })}`,
        'worker | a job',
        'fleet | app-1-0947 ended with SIGKILL; it is started again in 174 ms',
        `app-1-df85 | ${pino({ level: 50, reqId: 'r1', msg: 'broken' })}`,
      ],
    ],
  ] as const) {
    const log = openRunLog(port, fail)
    for (const text of lines) {
      const { label, line } = entryOf(text) ?? assert.fail(text)
      log.write(label, `${line}\n`)
    }
    log.close()
  }
}

const shown = ({ stdout }: Said): string[] =>
  stdout.trim() === ''
    ? []
    : stdout
        .trim()
        .split('\n')
        .map((line) => line.replace(/^(\S+) \| .*?(\w+)"?\}?$/, '$1 $2'))

describe('fleet logs', () => {
  test('shows the last lines of the last run, in a folder of the project, and filters them', async (t) => {
    const before = process.cwd()
    t.after(() => process.chdir(before))
    inProject()
    const all = [
      'app-1-0947 request',
      'app-2-40bd text',
      'app-2-40bd slow',
      'worker job',
      'fleet ms',
      'app-1-df85 broken',
    ]
    for (const [args, expected] of [
      [[], all],
      [['-n', '2'], all.slice(-2)],
      [['--lines', '0'], []],
      [
        ['-n', '2', 'app-1', 'app-2', 'worker'],
        ['worker job', 'app-1-df85 broken'],
      ],
      [['app-1'], ['app-1-0947 request', 'app-1-df85 broken']],
      [
        ['app-1-0947', 'worker'],
        ['app-1-0947 request', 'worker job'],
      ],
      [
        ['--log-level', 'warn', 'app-2', 'app-1'],
        ['app-2-40bd text', 'app-2-40bd slow', 'app-1-df85 broken'],
      ],
      [
        ['--request', 'r1'],
        ['app-1-0947 request', 'app-1-df85 broken'],
      ],
      [['--request', 'r1', '--log-level', 'error'], ['app-1-df85 broken']],
      [['-n', '1', '--request', 'r1', 'app-1-0947'], ['app-1-0947 request']],
      [['app'], []],
    ] as const) {
      const said = await runCommand(logs, ...args)
      assert.deepEqual([said.code, shown(said), said.stderr], [0, expected, ''], args.join(' '))
    }
    process.env.FLEET_PORT = '9090'
    t.after(() => delete process.env.FLEET_PORT)
    assert.equal((await runCommand(logs)).stdout, 'app-1-aaaa | other\n')
  })

  test('prints text on a terminal, and documents with --json', async (t) => {
    const before = process.cwd()
    t.after(() => process.chdir(before))
    inProject()
    let text = ''
    const stdout = { isTTY: true, columns: 200, write: (more: string) => (text += more) }
    const verbs = { logs: async () => ({ default: logs }) }
    assert.equal(await dispatch(verbs, ['logs', '-n', '3', 'app-2', 'app-1'], new Output({ stdout })), 0)
    assert.deepEqual(text.trim().split('\n'), [
      'app-2-40bd │ plain | text',
      'app-2-40bd │ 03:04:05.006 WARN  slow r2',
      'app-1-df85 │ 03:04:05.006 ERROR broken r1',
    ])
    const { stdout: json } = await runCommand(logs, '--json', '-n', '2')
    assert.deepEqual(
      json
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
      [
        { name: 'fleet', text: 'app-1-0947 ended with SIGKILL; it is started again in 174 ms' },
        { name: 'app-1-df85', record: { level: 50, time: at, pid: 1, hostname: 'h', reqId: 'r1', msg: 'broken' } },
      ],
    )
  })

  test('follows until nobody reads its output', async (t) => {
    const before = process.cwd()
    t.after(() => process.chdir(before))
    inProject()
    const listeners = new Set(process.stdout.rawListeners('error'))
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
    const others = signals.map((signal) => process.listeners(signal))
    const following = runCommand(logs, '--follow', '-n', '1')
    const added = () => process.stdout.rawListeners('error').filter((listener) => !listeners.has(listener))
    await until(() => added().length > 0)
    // Not `emit`: the runner of these tests would lose their results.
    for (const listener of added()) listener.call(process.stdout, new Error('EPIPE'))
    const { code, stdout } = await following
    assert.deepEqual([code, /^app-1-df85 \| .*broken/.test(stdout)], [0, true])
    for (const [i, signal] of signals.entries())
      for (const listener of process.listeners(signal))
        if (!others[i]?.includes(listener)) process.off(signal, listener)
  })

  test('ends with 2 where no fleet up has run, and for a wrong option', async (t) => {
    const before = process.cwd()
    t.after(() => process.chdir(before))
    process.chdir(temporaryFolder('empty'))
    for (const [args, says] of [
      [[], /FLEET_ERR_USAGE .*no `fleet up` has run in this project; see `fleet logs --help`/],
      [['-n', 'all'], /--lines must be a whole number from 0 to 100000, not "all"/],
      [['--log-level', 'loud'], /--log-level must be one of trace, .*, not "loud"/],
    ] as const) {
      const { code, stderr } = await runCommand(logs, ...args)
      assert.equal(code, 2)
      assert.match(stderr, says)
    }
    assert.ok(!existsSync('node_modules'), 'reading makes no folder')
  })
})

describe('the log of a run', () => {
  test('keeps two full files at most, private, and is read without a gap while they are replaced', async () => {
    const file = join(temporaryFolder('run-log'), 'up-1.log')
    const log = new RunLog(file, fail, 1_000)
    const reader = new LogReader(file)
    const read: string[] = []
    const ending = new AbortController()
    const following = (async () => {
      for await (const line of reader.follow(ending.signal)) read.push(line)
    })()
    const sent: string[] = []
    for (let i = 0; i < 100; i++) {
      const line = `line ${i} é`
      sent.push(`app | ${line}`)
      log.write('app', `${line}\n`)
      if (i % 20 === 19) await until(() => read.length === i + 1, { what: `line ${i}` })
    }
    assert.deepEqual(read, sent)
    assert.equal(statSync(file).mode & 0o777, 0o600)
    const size = statSync(file).size + statSync(fullFile(file)).size
    assert.ok(size > 1_000 && size < 2_100, String(size))
    assert.deepEqual([...new LogReader(file).all()].at(-1), sent.at(-1))
    log.close()
    // The next run begins anew, and the reader goes on with it.
    const next = new RunLog(file, fail, 1_000)
    next.write('app', 'again\n')
    await until(() => read.at(-1) === 'app | again')
    assert.equal(readFileSync(file, 'utf8'), 'app | again\n')
    assert.ok(!existsSync(fullFile(file)))
    next.close()
    ending.abort()
    await following
    reader.close()
  })

  test('is read to its end when it is replaced between two reads', (t) => {
    const file = join(temporaryFolder('run-log'), 'up-1.log')
    const log = new RunLog(file, fail, 10)
    t.after(() => log.close())
    const reader = new LogReader(file)
    t.after(() => reader.close())
    log.write('app', 'one\n')
    assert.deepEqual([...reader.more()], ['app | one'])
    const stat = t.mock.method(fs, 'statSync', ((path: string, options: StatSyncOptions) => {
      stat.mock.restore()
      syncBuiltinESMExports()
      log.write('app', 'two\nthree\n')
      return statSync(path, options)
    }) as typeof statSync)
    syncBuiltinESMExports()
    assert.deepEqual([...reader.more()], ['app | two', 'app | three'])
    assert.ok(existsSync(fullFile(file)), 'it was replaced')
  })

  test('says once that it cannot be written, and keeps those of eight ports', (t) => {
    const before = process.cwd()
    t.after(() => process.chdir(before))
    process.chdir(temporaryFolder('logs'))
    const said: string[] = []
    const log = new RunLog(join('missing', 'up-1.log'), (message) => void said.push(message))
    log.write('app', 'x\n')
    assert.equal(said.length, 1)
    assert.match(said.join(), /^no log for `fleet logs`: ENOENT/)
    for (let port = 1; port <= 10; port++) {
      openRunLog(port, fail).close()
      writeFileSync(fullFile(logFile(port)), 'full')
    }
    const kept = Array.from({ length: 10 }, (_, i) => existsSync(logFile(i + 1)))
    assert.equal(kept.filter(Boolean).length, 8)
    assert.ok(kept[9])
    const full = kept.map((_, i) => existsSync(fullFile(logFile(i + 1))))
    assert.deepEqual(full, kept, 'with the full file before it')
    assert.equal(statSync(dirname(logFile(1))).mode & 0o777, 0o700)
  })

  test('fleet up writes it, and fleet logs follows it from another process', async (t) => {
    const folder = temporaryFolder('up')
    writeFileSync(join(folder, 'package.json'), '{}')
    const line = "JSON.stringify({ level: 30, msg: 'served', reqId: 'r7', LOG_LEVEL: process.env.LOG_LEVEL })"
    const app = `require('node:http').createServer((request, response) => {
      if (request.url === '/ask') console.log(${line})
      response.end()
    }).listen(process.env.PORT, '127.0.0.1')\n`
    writeFileSync(join(folder, 'app.cjs'), app)
    const up = await fleetUp(folder, ['app.cjs', '--without', 'redis', '--front', 'node', '--json'], {
      LOG_LEVEL: undefined,
    })
    t.after(() => up.stop())
    const { front, instances } = JSON.parse((await up.waitFor(/^\{.*\}\n/m))[0])
    const follower = forkApp(main, { args: ['logs', '-f', '--json', '--request', 'r7'], cwd: folder, env: {} })
    t.after(() => follower.stop())
    const all = forkApp(main, { args: ['logs'], cwd: folder, env: {} })
    await all.exit
    assert.match(all.stdout, /^fleet \| starting 1 × app\.cjs$/m)
    // A request that comes before the follower has started is one of the last lines.
    await (await fetch(`${front.url}/ask`)).text()
    const found = JSON.parse((await follower.waitFor(/^\{.*\}\n/m))[0])
    const record = { level: 30, msg: 'served', reqId: 'r7', LOG_LEVEL: 'info' }
    assert.deepEqual(found, { name: instances[0].id, record })
    await follower.kill('SIGTERM')
    assert.equal(follower.ended?.code, 0)
  })
})
