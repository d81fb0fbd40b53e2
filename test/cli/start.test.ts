import '../helpers/cleanup.ts'
import assert from 'node:assert/strict'
import cluster from 'node:cluster'
import { symlinkSync, writeFileSync } from 'node:fs'
import { availableParallelism, hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import reload from '../../src/cli/commands/reload.ts'
import start from '../../src/cli/commands/start.ts'
import up from '../../src/cli/commands/up.ts'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { serveControl } from '../../src/host/control.ts'
import { defaultMemoryLimit } from '../../src/host/memory.ts'
import { until } from '../helpers/until.ts'
import { fakeCluster, outcome, turn } from '../host/fake-workers.ts'
import { runCommand, type Said } from './commands.ts'

const file = join(temporaryFolder('start'), 'app.js')
writeFileSync(file, '')

/** Removes variables of this machine for a test, or sets them. */
function withEnv(t: TestContext, env: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(env)) {
    const before = process.env[name]
    const set = (to: string | undefined): void => {
      if (to === undefined) delete process.env[name]
      else process.env[name] = to
    }
    set(value)
    t.after(() => set(before))
  }
}

describe('fleet start', () => {
  /** The group that these arguments start, when its first workers were forked. */
  async function group(t: TestContext, ...args: string[]) {
    const write = process.stdout.write.bind(process.stdout)
    // The log of the group; all else is the report of the tests.
    const isLog = (text: unknown): boolean => typeof text === 'string' && text.startsWith('{"level":')
    t.mock.method(
      process.stdout,
      'write',
      ((text: string, ...more: []) => isLog(text) || write(text, ...more)) as typeof process.stdout.write,
    )
    const cluster = fakeCluster(t)
    const said = runCommand(start, ...args)
    const result = outcome(said)
    for (let turns = 0; cluster.workers.length === 0 && turns < 1_000; turns++) await turn()
    return { ...cluster, said, result }
  }

  it('forks the file with its arguments, a worker per processor, with ids from this host', async (t) => {
    withEnv(t, { INSTANCE_ID: undefined })
    const { workers, worker, setUp } = await group(t, file, '--', '--color', 'green')
    assert.deepEqual(setUp, [{ exec: file, args: ['--color', 'green'] }])
    assert.equal(workers.length, availableParallelism())
    const { INSTANCE_ID, ...env } = worker(0).env
    assert.match(String(INSTANCE_ID), new RegExp(`^${hostname()}-1-[0-9a-f]{6}$`))
    const removed = { NOTIFY_SOCKET: undefined, WATCHDOG_USEC: undefined, WATCHDOG_PID: undefined }
    assert.deepEqual(env, { FLEET_WORKERS: availableParallelism(), FLEET_WORKER: 1, ...removed })
  })

  it('forks the file by the path that was given, so that a link may lead to the next release', async (t) => {
    const current = join(temporaryFolder('start'), 'current')
    symlinkSync(dirname(file), current)
    const { setUp } = await group(t, join(current, 'app.js'), '--workers', '1')
    assert.deepEqual(setUp, [{ exec: join(current, 'app.js'), args: [] }])
  })

  it('forks as many workers as given, named after INSTANCE_ID', async (t) => {
    withEnv(t, { INSTANCE_ID: 'shop' })
    const { workers, worker } = await group(t, file, '--workers', '3')
    assert.equal(workers.length, 3)
    assert.match(String(worker(2).env.INSTANCE_ID), /^shop-3-/)
  })

  it('gives the workers the port of --port, also in place of PORT', async (t) => {
    withEnv(t, { PORT: '3000' })
    const { worker } = await group(t, file, '--workers', '1', '--port', '4100')
    assert.equal(worker(0).env.PORT, '4100')
  })

  it('kills a worker that does not listen within --ready-timeout', async (t) => {
    const { worker, pass } = await group(t, file, '--workers', '1', '--ready-timeout', '700')
    await pass(699)
    assert.deepEqual(worker(0).signals, [])
    await pass(1)
    assert.deepEqual(worker(0).signals, ['SIGKILL'])
  })

  it('kills a worker that is silent for --stuck-after, five seconds by default', async (t) => {
    for (const [args, afterMs] of [
      [[], 5_000],
      [['--stuck-after', '1500'], 1_500],
    ] as const) {
      const { worker, pass } = await group(t, file, '--workers', '1', ...args)
      await worker(0).serve()
      await pass(afterMs)
      assert.deepEqual(worker(0).signals, [])
      await pass(500)
      assert.deepEqual(worker(0).signals, ['SIGKILL'])
      t.mock.timers.reset()
      t.mock.restoreAll()
    }
  })

  it('replaces a worker above --memory-limit in MiB, by default above its share of the memory, and never with 0', async (t) => {
    const [mib, share] = [1024 ** 2, defaultMemoryLimit(1)]
    for (const [args, rss, forked] of [
      [['--memory-limit', '100'], 100 * mib, 1],
      [['--memory-limit', '100'], 100 * mib + 1, 2],
      [['--memory-limit', '0'], 2 ** 50, 1],
      [[], share, 1],
      [[], share + 1, 2],
    ] as const) {
      const { workers, worker, pass } = await group(t, file, '--workers', '1', '--stuck-after', '60000', ...args)
      await worker(0).serve()
      await worker(0).tell({ fleet: 'beat', rss })
      await pass(3_000)
      assert.equal(workers.length, forked, `${args.join(' ')} ${rss}`)
      t.mock.timers.reset()
      t.mock.restoreAll()
    }
  })

  it('kills a replaced worker two seconds after SHUTDOWN_TIMEOUT, 30 s by default', async (t) => {
    for (const [timeout, afterMs] of [
      [undefined, 32_000],
      ['700', 2_700],
    ] as const) {
      withEnv(t, { SHUTDOWN_TIMEOUT: timeout })
      const { worker, pass } = await group(t, file, '--workers', '1', '--memory-limit', '1', '--stuck-after', '3600000')
      await worker(0).serve()
      await worker(0).tell({ fleet: 'beat', rss: 2 ** 30 })
      await pass(3_000)
      await worker(1).serve()
      await pass(1)
      const before = [...worker(0).signals]
      await pass(afterMs - 2)
      assert.deepEqual(worker(0).signals, before)
      await pass(1)
      assert.equal(worker(0).signals.at(-1), 'SIGKILL', `${timeout}`)
      t.mock.timers.reset()
      t.mock.restoreAll()
    }
  })

  it('forks no worker if another group has the control socket', async (t) => {
    const control = join(temporaryFolder('start'), 'control')
    const server = await serveControl(control, async () => {})
    t.after(() => server.close())
    const { workers } = fakeCluster(t)
    const said = runCommand(start, file, '--control', control)
    const result = outcome(said)
    await until(() => result.value !== undefined || workers.length > 0)
    assert.equal(workers.length, 0)
    const { code, stderr } = await said
    assert.deepEqual([code, /FLEET_ERR_CONTROL/.test(stderr)], [1, true], stderr)
  })

  it('cannot run in a worker of node:cluster', async (t) => {
    Object.assign(cluster, { isPrimary: false })
    t.after(() => Object.assign(cluster, { isPrimary: true }))
    const { code, stderr } = await runCommand(start, '/no/such/file.js')
    assert.equal(code, 2)
    assert.match(stderr, /`fleet start` cannot run in a cluster worker; with pm2 use fork mode/)
  })

  it('with --check exits with 0 if one worker becomes ready, else with 1', async (t) => {
    const good = await group(t, file, '--check')
    await good.worker(0).serve()
    await good.worker(0).end(0)
    assert.deepEqual(await good.said, { code: 0, stdout: 'ready\n', stderr: '' })
    t.mock.timers.reset()
    t.mock.restoreAll()
    const bad = await group(t, file, '--check', '--json')
    await bad.worker(0).end(1)
    const { code, stdout, stderr } = await bad.said
    assert.deepEqual([code, stdout], [1, '{"ready":false}\n'])
    assert.equal(stderr, `error ${file} did not become ready; see its output\n`)
  })

  it('rejects what is no file or out of range', async () => {
    for (const [args, message] of [
      [[], /missing FILE, the program of each worker/],
      [['/no/such/file.js'], /no such file: \/no\/such\/file\.js/],
      ...['0', '1025', 'many'].map((value) => [[file, '--workers', value], /--workers must be/] as const),
      ...['65536', '-1', 'x'].map((value) => [[file, `--port=${value}`], /--port must be a whole number/] as const),
      ...['0', '3600001'].map((value) => [[file, '--ready-timeout', value], /--ready-timeout must be/] as const),
      ...['1499', '3600001'].map((value) => [[file, '--stuck-after', value], /--stuck-after must be/] as const),
      ...['-1', '16777217'].map((value) => [[file, `--memory-limit=${value}`], /--memory-limit must be/] as const),
    ] as [string[], RegExp][]) {
      const { code, stderr } = await runCommand(start, ...args)
      assert.equal(code, 2, args.join(' '))
      assert.match(stderr, message)
    }
  })
})

describe('fleet reload', () => {
  it('reports success with 0 and an abandoned reload with 1', async (t) => {
    const control = join(temporaryFolder('reload'), 'control')
    let failure: Error | undefined
    const server = await serveControl(control, async () => {
      if (failure) throw failure
    })
    t.after(() => server.close())
    const stderr = '… replacing workers\n✓ all workers replaced\n'
    const done = (stdout: string): Said => ({ code: 0, stdout, stderr })
    assert.deepEqual(await runCommand(reload, '--control', control), done(''))
    assert.deepEqual(await runCommand(reload, '--control', control, '--json'), done('{"reloaded":true}\n'))
    failure = new Error('the build is broken')
    const failed = await runCommand(reload, '--control', control)
    assert.deepEqual([failed.code, failed.stdout], [1, ''])
    assert.match(
      failed.stderr,
      /^… replacing workers\n✗ replacing workers\nerror FLEET_ERR_RELOAD_FAILED .*the build is broken\n$/,
    )
  })

  it('needs the path of a group that runs', async () => {
    assert.match((await runCommand(reload)).stderr, /missing --control PATH/)
    const { code, stderr } = await runCommand(reload, '--control', '/no/such/socket')
    assert.equal(code, 1)
    assert.match(stderr, /FLEET_ERR_CONTROL .*ENOENT/)
  })
})

describe('fleet up', () => {
  it('rejects a wrong command line before it starts anything', async () => {
    for (const [args, message] of [
      [[file, file], /expected one FILE/],
      [['/no/such/file.js'], /no such file: \/no\/such\/file\.js/],
      ...['0', '65', 'x'].map(
        (value) => [[file, '-n', value], /--instances must be a whole number from 1 to 64/] as const,
      ),
      [[file, '--front', 'apache'], /--front must be one of nginx, haproxy, node, not "apache"/],
      [[file, '--front', 'constructor'], /--front must be one of/],
      [[file, '--with', 'mysql'], /--with must be one of redis, postgres, not "mysql"/],
      [[file, '--without', 'redis', '--without', 'x'], /--without must be one of redis, postgres, not "x"/],
      [[file, '--data', ''], /--data must name a folder, e\.g\. --data \.fleet/],
      [[file, '--log-level', 'loud'], /--log-level must be one of trace, debug, info, warn, error, fatal, not "loud"/],
      [[file, '--with', 'jobs=/no/such/file.js'], /--with jobs=.*: no such file/],
      [[file, '--watch-path', '/no/such/folder'], /--watch-path: no such file or folder: \/no\/such\/folder/],
      ...['65536', '-1', 'x'].map((value) => [[file, `--port=${value}`], /--port must be a whole number/] as const),
    ] as [string[], RegExp][]) {
      const { code, stdout, stderr } = await runCommand(up, ...args)
      assert.deepEqual([code, stdout], [2, ''], args.join(' '))
      assert.match(stderr, message)
    }
  })
})
