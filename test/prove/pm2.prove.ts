import assert from 'node:assert/strict'
import { join } from 'node:path'
import { Pm2, pm2Program, writeConfig } from '../fleet/pm2.ts'
import { isAlive } from '../helpers/alive.ts'
import { freePort } from '../helpers/free-port.ts'
import { sendRequest, Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { fleetCommand, Release } from '../host/group.ts'
import { proveInParts } from './parts.ts'
import { type Proof, prove } from './prove.ts'

/** pm2 with the shipped ecosystem file: two processes of a release. */
class Setup {
  readonly release = new Release('1')
  readonly config: string = join(this.release.folder, 'ecosystem.config.cjs')
  readonly pm2: Pm2
  readonly port: number

  private constructor(port: number, env: Record<string, string>) {
    this.port = port
    // Interval of the memory check, ms.
    this.pm2 = new Pm2({ PM2_WORKER_INTERVAL: '1000', INSTANCE_ID: 'the-shell-s', ...env })
    writeConfig(this.config, {
      script: this.release.file,
      max_memory_restart: '300M',
      env: { PORT: port, FLEET_READY_TIMEOUT: 4_000 },
    })
  }

  static async start(proof: Proof, env: Record<string, string> = {}): Promise<Setup> {
    const setup = new Setup(await freePort(), env)
    await setup.pm2.up()
    proof.t.after(() => setup.pm2.down())
    await setup.pm2.run('start', setup.config)
    const ids = new Set<string>()
    await until(async () => ids.add((await setup.send()).id).size === 2, { what: 'both instances' })
    assert.ok(!ids.has('the-shell-s'))
    return setup
  }

  send(): ReturnType<typeof sendRequest> {
    return sendRequest(this.port, 'GET', '/')
  }

  /** The process that responds. It rejects if none does in time. */
  async pidOf(timeoutMs: number): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.port}/`, {
      headers: { connection: 'close' },
      signal: AbortSignal.timeout(timeoutMs),
    })
    return ((await response.json()) as { pid: number }).pid
  }

  traffic(proof: Proof, clients = 8, silenceMs?: number): Traffic {
    const traffic = new Traffic(this.port, clients, 'mixed', { layer4: true, ...(silenceMs && { silenceMs }) })
    proof.t.after(() => traffic.halt())
    return traffic
  }
}

proveInParts(
  'pm2: reloads lose no request',
  'processes-replaced',
  { quick: 1, full: 25, parts: 4 },
  async (proof, rounds) => {
    const setup = await Setup.start(proof)
    const { pm2, release, config } = setup
    const traffic = setup.traffic(proof)
    const seen = new Set(await pm2.pids())
    for (let round = 1; round <= rounds; round++) {
      release.deploy({ version: `${round + 1}` })
      await pm2.run('reload', config)
      for (const pid of await pm2.pids()) seen.add(pid)
      assert.equal((await setup.send()).version, `${round + 1}`)
    }
    proof.count({ ...(await traffic.stop(release.orders)), replaced: 2 * rounds })
    assert.equal(seen.size, 2 + 2 * rounds)
  },
)

for (const [how, deploy] of [
  ['ends', (release: Release) => release.write('throw new Error("a bad build")')],
  ['never becomes ready', (release: Release) => release.deploy({ version: 'bad', neverReady: true })],
] as const)
  prove(
    `pm2: while a reloaded build ${how}, the old processes serve until it is fixed`,
    'pm2-bad-build',
    async (proof) => {
      const setup = await Setup.start(proof)
      const { pm2, release, config } = setup
      const old = await pm2.pids()
      const before = await pm2.restarts()
      const traffic = setup.traffic(proof, 4)
      deploy(release)
      const reload = pm2.command(['reload', config])
      await until(async () => (await pm2.restarts()) >= before + proof.pick(2, 3), {
        what: 'pm2 to have tried the bad build more than once',
        timeoutMs: 120_000,
      })
      assert.ok(old.every(isAlive))
      assert.equal(reload.ended, undefined)
      assert.deepEqual(traffic.versions, new Set(['1']))
      release.deploy({ version: '2' })
      assert.equal((await reload.exit).code, 0)
      assert.equal((await setup.send()).version, '2')
      assert.ok(!old.some(isAlive))
      proof.count(await traffic.stop(release.orders))
    },
    { fullOnly: how === 'never becomes ready' },
  )

// node:cluster, by which pm2 passes connections on, never closes one that it was passing to a process when that died.
const silenceMs = 5_000

prove('pm2: a process killed by SIGKILL costs only the requests that it was serving', 'pm2-crash', async (proof) => {
  const setup = await Setup.start(proof)
  for (let kill = 1; kill <= proof.pick(1, 20); kill++) {
    const traffic = setup.traffic(proof, 8, silenceMs)
    await traffic.more()
    const pids = await setup.pm2.pids()
    const victim = proof.random.pick(pids)
    // The daemon passes connections to the killed process, and closes them, until its event loop has seen the end.
    const killed = await traffic.kill(async () => {
      process.kill(victim, 'SIGKILL')
      await until(async () => !(await setup.pm2.pids()).includes(victim), { what: 'pm2 to have seen its end' })
    })
    await until(async () => !pids.includes(await setup.pidOf(silenceMs)), { what: 'its replacement' })
    await traffic.more()
    proof.count({ ...(await traffic.stop(setup.release.orders, [killed])), killed: 1 })
  }
})

prove(
  'pm2: a process above max_memory_restart is replaced, and a stop completes the requests in flight',
  'processes-replaced',
  async (proof) => {
    const setup = await Setup.start(proof)
    const { pm2, port } = setup
    const { pid } = await sendRequest(port, 'POST', '/hoard?mib=400')
    await until(() => !isAlive(pid), { what: 'the end of the big one' })
    await until(async () => (await pm2.list()).every(({ pm2_env }) => pm2_env.status === 'online'), { what: 'both' })
    const pids = await pm2.pids()
    assert.equal(pids.filter(isAlive).length, 2)
    const slow = Promise.all([1, 2, 3, 4].map(() => sendRequest(port, 'GET', '/slow?ms=1500')))
    await pm2.run('stop', 'fleet')
    proof.count({ requests: (await slow).length, failed: 0 })
    assert.ok(!pids.some(isAlive))
    const statuses = (await pm2.list()).map(({ pm2_env }) => pm2_env.status)
    assert.deepEqual(statuses, ['stopped', 'stopped'])
  },
  { fullOnly: true },
)

/** `fleet deploy rolling --front pm2`, with a build that reports the version it was deployed as. */
async function deploying(proof: Proof): Promise<{
  setup: Setup
  traffic: Traffic
  run: (version: string, ...more: string[]) => ReturnType<typeof fleetCommand>
  version: () => Promise<unknown>
}> {
  const setup = await Setup.start(proof, { FLEET_VERSION: '1' })
  const url = `http://127.0.0.1:${setup.port}`
  const version = async (): Promise<unknown> =>
    ((await (await fetch(`${url}/ready`)).json()) as { version: string }).version
  const run = (to: string, ...more: string[]): ReturnType<typeof fleetCommand> =>
    fleetCommand(
      [
        ...['deploy', 'rolling', '--front', 'pm2', setup.release.file, '--version', to, '--config', setup.config],
        ...['--pm2', `${process.execPath} ${pm2Program}`, '--url', url, ...more],
      ],
      setup.pm2.env,
    )
  return { setup, traffic: setup.traffic(proof, 4), run, version }
}

prove(
  'fleet deploy --front pm2: a new version replaces every process',
  'deploy-no-loss',
  async (proof) => {
    const { setup, traffic, run, version } = await deploying(proof)
    setup.release.deploy({ version: '2' })
    const deploy = run('2')
    assert.equal((await deploy.exit).code, 0, deploy.stderr)
    assert.equal(await version(), '2')
    assert.equal((await setup.send()).version, '2')
    proof.count(await traffic.stop(setup.release.orders))
  },
  { fullOnly: true },
)

prove(
  'fleet deploy --front pm2: a bad build is rejected by the check, or rolled back',
  'deploy-rolls-back',
  async (proof) => {
    const { setup, traffic, run, version } = await deploying(proof)
    const { release } = setup
    release.write('throw new Error("a bad build")')
    const rejected = run('2')
    assert.equal((await rejected.exit).code, 1, rejected.stderr)
    assert.match(rejected.stderr, /FLEET_ERR_DEPLOY_FAILED.*check/)
    assert.equal(await version(), '1')

    // It passes the check and reports another version than the given one.
    release.deploy({ version: '2' })
    release.write(`process.env.FLEET_VERSION = 'another'
const { serve } = await import(${JSON.stringify(new URL('../host/fixtures/app.ts', import.meta.url).pathname)})
await serve({ version: '2', orders: ${JSON.stringify(release.orders)} })
`)
    const good = new Release('1')
    good.deploy({ version: '1', orders: release.orders })
    const kept = join(release.folder, 'kept.ts')
    const restore = `sh -c 'cp ${good.file} ${kept} && mv ${kept} ${release.file}'`
    const undone = run('3', '--restore', restore, '--timeout', '60000')
    assert.equal((await undone.exit).code, 1, undone.stderr)
    assert.match(undone.stderr, /FLEET_ERR_DEPLOY_FAILED.*not ready as version 3/)
    assert.equal((await setup.send()).version, '1')
    assert.equal(await version(), '1')
    proof.count(await traffic.stop(release.orders))
  },
  { fullOnly: true },
)
