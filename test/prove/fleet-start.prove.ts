import assert from 'node:assert/strict'
import { isAlive } from '../helpers/alive.ts'
import { startRedis } from '../helpers/redis.ts'
import { repeat } from '../helpers/repeat.ts'
import { sendRequest, Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { fleetCommand, type Group, logged, Release, startGroup } from '../host/group.ts'
import { Visitor } from './fixtures/visitor.ts'
import { proveInParts } from './parts.ts'
import { prove } from './prove.ts'

// A busy machine takes long to start a worker, which is no failure here.
const workers = ['--workers', '2', '--ready-timeout', '120000']
const visits = new URL('fixtures/visits.ts', import.meta.url).pathname

proveInParts(
  'fleet start: reloads lose no request',
  'fleet-start-reload',
  { quick: 2, full: 25, parts: 4 },
  async (proof, rounds) => {
    const release = new Release()
    const group = await startGroup(release, workers)
    const traffic = new Traffic(group.port)
    proof.t.after(() => traffic.halt())
    const versions = new Set(['1'])
    for (let round = 1; round <= rounds; round++) {
      const version = `${round + 1}`
      release.deploy({ version })
      versions.add(version)
      // Half of them by signal, half by the command, which waits.
      if (round % 2 === 1) {
        await group.kill('SIGHUP')
        await until(() => logged(group, 'reloaded').length === round, { what: 'the reload', timeoutMs: 180_000 })
      } else {
        const reload = fleetCommand(['reload', '--control', release.control])
        assert.deepEqual(await reload.exit, { code: 0, signal: null }, reload.stderr)
      }
      assert.equal((await sendRequest(group.port, 'GET', '/')).version, version)
    }
    proof.count({ ...(await traffic.stop(release.orders)), replaced: 2 * rounds })
    // Every build has served.
    assert.deepEqual(traffic.versions, versions)
    await group.kill('SIGTERM')
    assert.deepEqual(group.ended, { code: 0, signal: null })
  },
)

prove(
  'fleet start: a build that never serves is rejected while the old workers serve',
  'fleet-start-bad-build',
  async (proof) => {
    const release = new Release('good')
    const readyTimeoutMs = '30000'
    const group = await startGroup(release, ['--workers', '2', '--ready-timeout', readyTimeoutMs])
    await until(() => logged(group, 'worker ready').length === 2, { what: 'both workers' })
    const pids = new Set(logged(group, 'worker ready').map(({ workerPid }) => workerPid))
    const traffic = new Traffic(group.port, 4)
    proof.t.after(() => traffic.halt())
    const ends = /ended before it was ready/
    const late = new RegExp(`was not ready within ${readyTimeoutMs} ms`)
    const bad: [why: string, deploy: () => void, expected: RegExp][] = [
      ['throws', () => release.write('throw new Error("a bad build")'), ends],
      ['does not compile', () => release.write('this is no program'), ends],
      ['is never ready', () => release.deploy({ version: 'bad', neverReady: true }), late],
      ['hangs', () => release.write('setInterval(() => {}, 1000)'), late],
    ]
    const tried = bad.slice(0, proof.pick(2, bad.length))
    for (const [why, deploy, expected] of tried) {
      deploy()
      const reload = fleetCommand(['reload', '--control', release.control])
      assert.deepEqual(await reload.exit, { code: 1, signal: null }, why)
      assert.match(reload.stderr, expected, why)
      assert.match(reload.stderr, /FLEET_ERR_RELOAD_FAILED .*the old one keeps serving/, why)
    }
    assert.equal(logged(group, 'reload abandoned').length, tried.length)
    for (let i = 0; i < 10; i++) assert.ok(pids.has((await sendRequest(group.port, 'GET', '/')).pid))
    assert.deepEqual(traffic.versions, new Set(['good']))

    release.deploy({ version: 'fixed' })
    const fixed = fleetCommand(['reload', '--control', release.control])
    assert.equal((await fixed.exit).code, 0, fixed.stderr)
    assert.equal((await sendRequest(group.port, 'GET', '/')).version, 'fixed')
    proof.count({ ...(await traffic.stop(release.orders)), rejectedBuilds: tried.length })
    assert.deepEqual(traffic.versions, new Set(['good', 'fixed']))
  },
)

prove(
  'fleet start: a worker killed by SIGKILL costs only the requests that it was serving',
  'fleet-start-crash',
  async (proof) => {
    const release = new Release()
    const group = await startGroup(release, ['--workers', '3'])
    await until(() => logged(group, 'worker ready').length === 3, { what: 'all workers' })
    // A worker that crashes again and again is restarted ever later.
    for (let kill = 1; kill <= proof.pick(2, 20); kill++) {
      const alive = logged(group, 'worker ready').map(({ workerPid }) => workerPid as number)
      const victim = proof.random.pick(alive.filter(isAlive))
      const traffic = new Traffic(group.port, 8, 'mixed', { layer4: true })
      proof.t.after(() => traffic.halt())
      await traffic.more()
      // The main process passes connections to the killed worker until it has seen the end.
      const killed = await traffic.kill(async () => {
        process.kill(victim, 'SIGKILL')
        const isSeen = (): boolean => logged(group, 'worker ended').some(({ workerPid }) => workerPid === victim)
        await until(isSeen, { what: 'its end' })
      })
      // By the two others.
      await traffic.more()
      await until(() => logged(group, 'worker ready').length === 3 + kill, { what: 'its replacement' })
      proof.count({ ...(await traffic.stop(release.orders, [killed])), killed: 1 })
    }
  },
)

prove(
  'fleet start: sessions survive reloads under load, and a stop and start of all workers',
  'no-lost-sessions',
  async (proof) => {
    const redis = await startRedis()
    const release = new Release()
    const env = { REDIS_URL: redis.url, SESSION_SECRET: 'the secret of the visits in this proof only' }
    const build = (version: string): void =>
      release.write(`import { serve } from ${JSON.stringify(visits)}\nawait serve(${JSON.stringify(version)})\n`)
    const start = (): Promise<Group> => startGroup(release, workers, env)
    build('1')
    const first = await start()
    const visitors = Array.from({ length: 8 }, () => new Visitor())
    const stop = repeat(visitors.length, (i) => (visitors[i] as Visitor).visit(first.port))
    proof.t.after(stop)
    const rounds = proof.pick(1, 20)
    for (let round = 1; round <= rounds; round++) {
      build(`${round + 1}`)
      const reload = fleetCommand(['reload', '--control', release.control])
      assert.equal((await reload.exit).code, 0, reload.stderr)
      assert.equal((await sendRequest(first.port, 'GET', '/')).version, `${round + 1}`)
    }
    await stop()
    await first.kill('SIGTERM')
    assert.deepEqual(first.ended, { code: 0, signal: null })
    const second = await start()
    for (const visitor of visitors) await visitor.visit(second.port)
    const sum = (of: (visitor: Visitor) => number): number =>
      visitors.reduce((total, visitor) => total + of(visitor), 0)
    assert.deepEqual(
      visitors.flatMap(({ failures }) => failures),
      [],
    )
    proof.count({ requests: sum(({ visits }) => visits), failed: 0, sessions: visitors.length, replaced: 2 * rounds })
  },
)
