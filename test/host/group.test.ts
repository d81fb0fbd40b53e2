import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isAlive } from '../helpers/alive.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { sendRequest } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { fleetCommand, type Group, logged, Release, startGroup } from './group.ts'

const workerPids = (group: Group): number[] => logged(group, 'worker ready').map(({ workerPid }) => Number(workerPid))

async function started(args: readonly string[], env: Record<string, string | number | undefined> = {}): Promise<Group> {
  const group = await startGroup(new Release(), args, env)
  const [workers] = args.filter((arg) => /^\d+$/.test(arg))
  await until(() => workerPids(group).length === Number(workers), { what: 'all workers' })
  return group
}

/** Crashes a worker. A request that was lost on its way is sent again. */
async function crash(group: Group): Promise<void> {
  const ended = logged(group, 'worker ended').length
  await until(
    async () => {
      await sendRequest(group.port, 'POST', '/crash').catch(() => {})
      return until(() => logged(group, 'worker ended').length > ended, { timeoutMs: 10_000 })
    },
    { what: 'the crash of a worker', timeoutMs: 120_000 },
  )
}

const series = 'http_request_duration_seconds_count{method="GET",route="/slow",status_code="200"}'

/**
 * A metric with all its labels from `/metrics` of the group. A worker that receives nothing from the others in time returns
 * its own metrics alone; then it is asked again.
 */
async function metric(group: Group, series: string): Promise<number | undefined> {
  const body = await until(
    async () => {
      // A new connection: a kept one may lead to a stuck worker.
      const scrape = get({ port: group.port, host: '127.0.0.1', path: '/metrics', agent: false })
      const [response] = (await once(scrape, 'response')) as [IncomingMessage]
      const body = await text(response)
      return /^fleet_workers\{/m.test(body) ? body : undefined
    },
    { what: 'the figures of the group' },
  )
  const line = body.split('\n').find((l) => l.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.split(' ').at(-1))
}

/** A worker that responds late is missing from the scrape. */
const counts = (group: Group, series: string, value: number): Promise<unknown> =>
  until(async () => (await metric(group, series)) === value, { what: `${series} ${value}` })

test('each worker is a separate instance', async () => {
  const group = await started(['--workers', '3'])
  const ids = new Set<string>()
  await until(async () => ids.add((await sendRequest(group.port, 'GET', '/')).id).size === 3, {
    what: 'all three to respond',
  })
  assert.deepEqual([...ids].map((id) => id.replace(/-[\da-f]{6}$/, '')).sort(), ['app-1', 'app-2', 'app-3'])
})

test('on SIGTERM requests in flight complete, the exit code is 0, and no process remains', async () => {
  const group = await started(['--workers', '2'])
  const slow = Promise.all([1, 2, 3, 4].map(() => sendRequest(group.port, 'GET', '/slow?ms=700')))
  await until(async () => (await metric(group, 'fleet_workers{state="serving"}')) === 2, { what: 'the figures' })
  await group.kill('SIGTERM')
  assert.equal((await slow).length, 4)
  assert.deepEqual(group.ended, { code: 0, signal: null })
  assert.deepEqual(workerPids(group).filter(isAlive), [])
})

test('Ctrl-C in a terminal reaches all processes at once and loses no request', async () => {
  const group = await started(['--workers', '2'])
  const slow = Promise.all([1, 2, 3, 4].map(() => sendRequest(group.port, 'GET', '/slow?ms=700')))
  await metric(group, 'fleet_workers_silent')
  process.kill(-group.pid, 'SIGINT')
  assert.equal((await slow).length, 4)
  assert.deepEqual(await group.exit, { code: 0, signal: null })
  assert.deepEqual(workerPids(group).filter(isAlive), [])
})

test('a SIGTERM to all processes, as systemd sends it, drains for DRAIN_DELAY', async () => {
  const group = await started(['--workers', '2'], { DRAIN_DELAY: 600_000, SHUTDOWN_TIMEOUT: 600_000 })
  process.kill(-group.pid, 'SIGTERM')
  const pids = new Set<number>()
  await until(
    async () => {
      const response = await fetch(`http://127.0.0.1:${group.port}/`, { headers: { connection: 'close' } })
      if (response.headers.has('x-fleet-draining')) pids.add(((await response.json()) as { pid: number }).pid)
      return pids.size === 2
    },
    { what: 'the drain of both workers' },
  )
  await group.stop(0)
})

test('a second signal ends the group at once, with 1', async () => {
  const group = await started(['--workers', '2'])
  const slow = sendRequest(group.port, 'GET', '/slow?ms=60000')
  slow.catch(() => {})
  await metric(group, 'fleet_workers_silent')
  process.kill(group.pid, 'SIGTERM')
  await until(() => logged(group, 'stopping').length === 1, { what: 'the first signal' })
  await until(() => group.ended ?? void group.kill('SIGTERM'), { what: 'the exit' })
  assert.deepEqual(group.ended, { code: 1, signal: null })
  await assert.rejects(slow)
  await until(() => workerPids(group).every((pid) => !isAlive(pid)), { what: 'the end of all workers' })
})

test('requests that outlast SHUTDOWN_TIMEOUT are cut off, with exit code 1', async () => {
  const group = await started(['--workers', '1'], { SHUTDOWN_TIMEOUT: 300 })
  const slow = sendRequest(group.port, 'GET', '/slow?ms=60000')
  slow.catch(() => {})
  await metric(group, 'fleet_workers_silent')
  await group.kill('SIGTERM')
  assert.deepEqual(group.ended, { code: 1, signal: null })
})

test('workers end when their supervisor is killed', async () => {
  const group = await started(['--workers', '2'])
  await group.kill('SIGKILL')
  await until(() => workerPids(group).every((pid) => !isAlive(pid)), { what: 'the end of all workers' })
})

test('restarts a worker that crashes while the others serve', async () => {
  const group = await started(['--workers', '2'])
  await crash(group)
  await until(() => workerPids(group).length === 3, { what: 'the third worker' })
  assert.equal(logged(group, 'worker ended')[0]?.code, 3)
  assert.equal(await metric(group, 'fleet_worker_starts_total{reason="crash"}'), 1)
  assert.equal(await metric(group, 'fleet_workers{state="serving"}'), 2)
})

test('a signal to one worker drains and restarts that worker', async () => {
  const group = await started(['--workers', '2'])
  process.kill(workerPids(group)[0] as number, 'SIGTERM')
  await until(() => workerPids(group).length === 3, { what: 'the third worker' })
  assert.equal(logged(group, 'worker ended')[0]?.code, 0)
})

test('restarts a worker that keeps crashing with growing delays', async () => {
  const release = new Release()
  const group = await startGroup(release, ['--workers', '1'])
  release.write('process.exit(3)')
  await crash(group)
  const waits = (): number[] => logged(group, 'restarting worker').map(({ delayMs }) => Number(delayMs))
  await until(() => waits().length >= 4, { what: 'four tries', timeoutMs: 120_000 })
  for (const [i, wait] of waits().entries()) assert.ok(wait >= 100 && wait <= 3 * (waits()[i - 1] ?? 100))
  release.deploy({ version: 'recovered' })
  await until(async () => (await sendRequest(group.port, 'GET', '/')).version === 'recovered', {
    what: 'the recovery',
    timeoutMs: 120_000,
  })
})

test('replaces a stuck worker, and serves /metrics without it meanwhile', async () => {
  const group = await started(['--workers', '2', '--stuck-after', '10000'])
  for (let i = 0; i < 20; i++) await sendRequest(group.port, 'GET', '/slow?ms=0')
  await counts(group, series, 20)
  await sendRequest(group.port, 'POST', '/block?ms=600000')
  await counts(group, 'fleet_workers_silent', 1)
  assert.equal(await metric(group, series), 20)
  await until(() => workerPids(group).length === 3, { what: 'its replacement' })
  assert.equal(logged(group, 'worker stuck: killed').length, 1)
  await counts(group, 'fleet_workers_silent', 0)
  assert.equal(await metric(group, series), 20)
  assert.equal(await metric(group, 'fleet_worker_starts_total{reason="stuck"}'), 1)
  assert.ok(((await metric(group, 'fleet_partial_scrapes_total')) ?? 0) >= 1)
})

test('replaces a worker above its memory limit by one that is ready', async () => {
  const group = await started(['--workers', '2', '--memory-limit', '260'])
  const { pid } = await sendRequest(group.port, 'POST', '/hoard?mib=300')
  await until(() => workerPids(group).length === 3, { what: 'its replacement' })
  await until(() => !isAlive(pid), { what: 'the end of the big one' })
  assert.equal(await metric(group, 'fleet_worker_starts_total{reason="memory"}'), 1)
  assert.equal(logged(group, 'worker ended').length, 0)
})

test('draining one worker drains the group, because a load balancer sees one port', async () => {
  const group = await started(['--workers', '3'])
  const probe = async (path: string): Promise<number> => (await fetch(`http://127.0.0.1:${group.port}${path}`)).status
  const command = (name: string): Promise<unknown> => sendRequest(group.port, 'POST', `/api/v1/load-balancer/${name}`)
  const allSay = (status: number): Promise<unknown> =>
    until(
      async () => {
        // Each on a new connection, which any worker may accept.
        const responses = await Promise.all(Array.from({ length: 20 }, () => probe('/ready')))
        return responses.every((response) => response === status)
      },
      { what: `/ready ${status} from every worker` },
    )
  await allSay(200)
  await command('drain')
  await allSay(503)
  assert.equal(await probe('/live'), 200)
  await group.kill('SIGHUP')
  await until(() => logged(group, 'reloaded').length === 1, { what: 'the reload' })
  await allSay(503)
  await command('undrain')
  await allSay(200)
})

test('any worker serves the metrics of the whole group, also after a reload', async () => {
  const group = await started(['--workers', '2'])
  for (let i = 0; i < 30; i++) await sendRequest(group.port, 'GET', '/slow?ms=0')
  await counts(group, series, 30)
  for (let i = 0; i < 5; i++) assert.equal(await metric(group, series), 30)
  await group.kill('SIGHUP')
  await until(() => logged(group, 'reloaded').length === 1, { what: 'the reload' })
  assert.equal(await metric(group, series), 30)
  const open = await fetch(`http://127.0.0.1:${group.port}/metrics`, {
    headers: { accept: 'application/openmetrics-text; version=1.0.0' },
  })
  assert.match(open.headers.get('content-type') ?? '', /^application\/openmetrics-text/)
  assert.match(await open.text(), /# EOF\n$/)
})

/** A program with the whole toolkit, whose state is in memory without Redis. */
const stateful = `import Fastify from 'fastify'
import { fleet } from ${JSON.stringify(new URL('../../src/index.ts', import.meta.url).href)}
const app = Fastify({ logger: { level: 'warn' } })
await app.register(fleet)
app.get('/', async () => ({}))
await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
`.replace("'fastify'", JSON.stringify(import.meta.resolve('fastify')))
const noRedis = { REDIS_URL: undefined, REDIS_HOST: undefined, NODE_ENV: undefined }

test('rejects several workers without Redis, with the fix and exit code 2', async () => {
  const release = new Release()
  release.write(stateful)
  const refused = fleetCommand(['start', release.file, '--workers', '2'], { ...noRedis, PORT: 0 })
  assert.deepEqual(await refused.exit, { code: 2, signal: null })
  const last = refused.stderr.trim().split('\n').at(-1) ?? ''
  assert.match(last, /FLEET_ERR_MEMORY_IN_WORKERS .*REDIS_URL.*2 processes.*--workers 1.*FLEET_ALLOW_MEMORY=1/)
})

test('runs one worker without Redis, and several with FLEET_ALLOW_MEMORY and a warning', async () => {
  const release = new Release()
  release.write(stateful)
  const one = await startGroup(release, ['--workers', '1'], noRedis)
  await one.stop()
  const two = await startGroup(release, ['--workers', '2'], { ...noRedis, FLEET_ALLOW_MEMORY: '1' })
  await until(() => /a session exists in one of them only/.test(two.stdout), { what: 'the warning' })
  await two.stop()
})

test('rejects several processes of pm2 without Redis', async () => {
  const release = new Release()
  release.write(stateful)
  const pm2 = { pm_id: '0', instances: '2', exec_mode: 'cluster_mode' }
  const app = forkApp(release.file, { env: { ...noRedis, ...pm2, PORT: 0 } })
  assert.equal((await app.exit).code, 1)
  assert.match(app.stdout, /FLEET_ERR_MEMORY_IN_WORKERS/)

  // As pm2 runs an ES module: it keeps a channel open, logs a rejection, and leaves the process running.
  release.write(`process.on('unhandledRejection', () => {})\nprocess.on('message', () => {})\nimport('./refused.ts')`)
  const refused = join(release.folder, 'refused.ts')
  writeFileSync(refused, stateful)
  const kept = forkApp(release.file, { env: { ...noRedis, ...pm2, PORT: 0 }, ipc: true })
  assert.equal((await kept.exit).code, 1)
  assert.match(kept.stdout + kept.stderr, /REDIS_URL.*FLEET_ALLOW_MEMORY=1/)
})

test('exits with 1 when no worker starts although a parent process such as pm2 has opened a channel', async () => {
  const release = new Release()
  release.write('throw new Error("a bad build")')
  const cli = new URL('../../src/cli/main.ts', import.meta.url)
  const failed = forkApp(cli, { args: ['start', release.file, '--workers', '1'], ipc: true })
  assert.deepEqual(await failed.exit, { code: 1, signal: null })
})

test('exits with 1 when no worker starts, with 2 on invalid arguments', async () => {
  const release = new Release()
  release.write('throw new Error("a bad build")')
  const failed = fleetCommand(['start', release.file, '--workers', '2'])
  assert.deepEqual(await failed.exit, { code: 1, signal: null })
  assert.match(failed.stderr, /a bad build/)
  assert.match(failed.stderr, /FLEET_ERR_WORKER_NOT_READY/)
  const wrong = [
    ['start'],
    ['start', '/no/such/file.js'],
    ['start', release.file, '--workers', '0'],
    ['start', release.file, '--workers', 'many'],
    ['start', release.file, '--memory-limit', '-1'],
    ['start', release.file, '--ready-timeout', '1e3'],
    ['reload'],
  ]
  await Promise.all(
    wrong.map(async (args) => {
      const command = fleetCommand(args)
      assert.equal((await command.exit).code, 2, args.join(' '))
      assert.match(command.stderr, /FLEET_ERR_USAGE/)
    }),
  )
  const unreachable = fleetCommand(['reload', '--control', '/no/such/socket'])
  assert.equal((await unreachable.exit).code, 1)
  assert.match(unreachable.stderr, /FLEET_ERR_CONTROL/)
})

test('passes arguments after -- to the app', async () => {
  const release = new Release()
  release.write(`
    import { createServer } from 'node:http'
    const args = JSON.stringify(process.argv.slice(2))
    createServer((_, response) => response.end(args)).listen(process.env.PORT, '127.0.0.1')
  `)
  const group = await startGroup(release, ['--workers', '1', '--', '--color', 'green'])
  assert.deepEqual(await sendRequest(group.port, 'GET', '/'), ['--color', 'green'])
})

test('workers share one management listener, through a reload', async () => {
  const release = new Release()
  const admin = await freePort()
  const group = await startGroup(release, ['--workers', '2'], { FLEET_ADMIN_PORT: admin })
  const look = async (path: string): Promise<{ status: number; body: string }> => {
    const outgoing = get({ port: admin, host: '127.0.0.1', path, agent: false })
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
    return { status: response.statusCode ?? 0, body: await text(response) }
  }
  await until(async () => /fleet_workers\{state="serving"\} 2/.test((await look('/metrics')).body), { what: 'both' })
  assert.equal((await fetch(`http://127.0.0.1:${group.port}/metrics`)).status, 404)
  let reloading = true
  // A worker that closes responds with 503 to a connection that it accepted before. That takes a machine that stands still
  // between connection and request; like any prober, the client then tries again.
  const probe = async (): Promise<number> => {
    const { status } = await look('/live')
    return status === 503 ? (await look('/live')).status : status
  }
  const probes = (async () => {
    const seen = new Set<number>()
    while (reloading) {
      seen.add(await probe())
      await sleep(5)
    }
    return seen
  })()
  const reload = fleetCommand(['reload', '--control', release.control])
  assert.deepEqual(await reload.exit, { code: 0, signal: null })
  reloading = false
  assert.deepEqual([...(await probes)], [200], 'no probe fails while workers are replaced')
  const check = fleetCommand(['start', release.file, '--check'], { PORT: group.port, FLEET_ADMIN_PORT: admin })
  assert.deepEqual(await check.exit, { code: 0, signal: null }, check.stderr)
  await group.kill('SIGTERM')
  assert.deepEqual(group.ended, { code: 0, signal: null })
})
