import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Child, launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { isAlive } from '../helpers/alive.ts'
import { freePort } from '../helpers/free-port.ts'
import { sendRequest, Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { fleetCommand, Release } from '../host/group.ts'

const require = createRequire(import.meta.url)
const pm2Folder = dirname(require.resolve('pm2/package.json'))
const shipped = new URL('../../ecosystem.config.cjs', import.meta.url).pathname

interface Listed {
  pid: number
  pm_id: number
  pm2_env: { status: string; restart_time: number }
}

/** A separate pm2 in its own folder, stopped at the end of this file. */
class Pm2 {
  readonly release = new Release('1')
  readonly config: string = join(this.release.folder, 'ecosystem.config.cjs')
  port = 0
  #daemon: Child | undefined
  readonly #env = {
    PM2_HOME: temporaryFolder('pm2'),
    PM2_DISCRETE_MODE: 'true',
    // pm2 runs the `node` on PATH for its version.
    PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}`,
    // Interval of the memory check, ms.
    PM2_WORKER_INTERVAL: '1000',
    NODE_TEST_CONTEXT: undefined,
    INSTANCE_ID: 'the-shell-s',
  }

  async up(): Promise<void> {
    this.port = await freePort()
    // The shipped file, except for machine-specific values.
    const change = { script: this.release.file, instances: 2, max_memory_restart: '300M' }
    const env = { PORT: this.port, FLEET_READY_TIMEOUT: 4_000 }
    writeFileSync(
      this.config,
      `const [app] = require(${JSON.stringify(shipped)}).apps
      module.exports = { apps: [{ ...app, ...${JSON.stringify(change)}, env: { ...app.env, ...${JSON.stringify(env)} } }] }`,
    )
    // The daemon that the command line would start, as a child of this process.
    this.#daemon = launch(process.execPath, [join(pm2Folder, 'lib/Daemon.js')], { env: this.#env })
    await until(() => existsSync(join(this.#env.PM2_HOME, 'rpc.sock')), { what: 'the daemon' })
  }

  command(...args: string[]): Child {
    return launch(process.execPath, [join(pm2Folder, 'bin/pm2'), ...args], { env: this.#env })
  }

  async run(...args: string[]): Promise<string> {
    const command = this.command(...args)
    assert.equal((await command.exit).code, 0, command.stdout + command.stderr)
    return command.stdout
  }

  async list(): Promise<Listed[]> {
    return JSON.parse(await this.run('jlist')) as Listed[]
  }

  async pids(): Promise<number[]> {
    return (await this.list()).map(({ pid }) => pid)
  }

  /** Restarts of an instance. */
  async starts(): Promise<number> {
    return (await this.list()).reduce((sum, { pm2_env }) => sum + pm2_env.restart_time, 0)
  }

  async down(): Promise<void> {
    await this.run('kill')
    await this.#daemon?.exit
  }
}

describe('pm2 with the shipped ecosystem.config.cjs', () => {
  const pm2 = new Pm2()
  before(() => pm2.up())
  after(() => pm2.down())

  test('kill_timeout is longer than SHUTDOWN_TIMEOUT', () => {
    const [app] = (require(shipped) as { apps: { kill_timeout: number; env: { SHUTDOWN_TIMEOUT: number } }[] }).apps
    assert.ok(app && app.kill_timeout > app.env.SHUTDOWN_TIMEOUT)
  })

  test('starts two ready instances with different ids', async () => {
    await pm2.run('start', pm2.config)
    const ids = new Set<string>()
    await until(async () => ids.add((await sendRequest(pm2.port, 'GET', '/')).id).size === 2, {
      what: 'both instances',
    })
    assert.ok(!ids.has('the-shell-s'))
  })

  test('reloads under load without a failed request or a repeated order', async (t) => {
    const traffic = new Traffic(pm2.port)
    t.after(() => traffic.halt())
    const seen = new Set(await pm2.pids())
    for (let round = 2; round <= 21; round++) {
      pm2.release.deploy({ version: `${round}` })
      await pm2.run('reload', pm2.config)
      for (const pid of await pm2.pids()) seen.add(pid)
      assert.equal((await sendRequest(pm2.port, 'GET', '/')).version, `${round}`)
    }
    await traffic.stop(pm2.release.orders)
    assert.equal(seen.size, 42)
    t.diagnostic(`${traffic.requests} requests while each of 2 instances was replaced 20 times: 0 failed`)
  })

  test('the check rejects a bad build', async () => {
    pm2.release.write('throw new Error("a bad build")')
    const check = fleetCommand(['start', pm2.release.file, '--check'])
    assert.deepEqual(await check.exit, { code: 1, signal: null })
  })

  for (const [how, deploy] of [
    ['ends', () => pm2.release.write('throw new Error("a bad build")')],
    ['never becomes ready', () => pm2.release.deploy({ version: 'bad', neverReady: true })],
  ] as const) {
    test(`after a reload of a build that ${how}, the old instances serve until it is fixed`, async (t) => {
      pm2.release.deploy({ version: `before ${how}` })
      await pm2.run('reload', pm2.config)
      const old = await pm2.pids()
      const before = await pm2.starts()
      const traffic = new Traffic(pm2.port, 4)
      t.after(() => traffic.halt())
      deploy()
      const reload = pm2.command('reload', pm2.config)
      await until(async () => (await pm2.starts()) >= before + 3, {
        what: 'pm2 to have tried the bad build more than once',
        timeoutMs: 60_000,
      })
      assert.ok(old.every(isAlive))
      assert.equal(reload.ended, undefined)
      assert.deepEqual(traffic.versions, new Set([`before ${how}`]))

      pm2.release.deploy({ version: `after ${how}` })
      assert.equal((await reload.exit).code, 0)
      assert.equal((await sendRequest(pm2.port, 'GET', '/')).version, `after ${how}`)
      assert.ok(!old.some(isAlive))
      await traffic.stop(pm2.release.orders)
    })
  }

  test('replaces an instance above the memory limit', async () => {
    const { pid } = await sendRequest(pm2.port, 'POST', '/hoard?mib=400')
    await until(() => !isAlive(pid), { what: 'the end of the big one' })
    await until(async () => (await pm2.list()).every(({ pm2_env }) => pm2_env.status === 'online'), { what: 'both' })
    assert.equal((await pm2.pids()).filter(isAlive).length, 2)
  })

  test('stops after in-flight requests end, and leaves no process', async () => {
    const pids = await pm2.pids()
    const slow = Promise.all([1, 2, 3, 4].map(() => sendRequest(pm2.port, 'GET', '/slow?ms=1500')))
    await pm2.run('stop', 'fleet')
    assert.equal((await slow).length, 4)
    assert.ok(!pids.some(isAlive))
    assert.deepEqual(
      (await pm2.list()).map(({ pm2_env }) => pm2_env.status),
      ['stopped', 'stopped'],
    )
  })
})
