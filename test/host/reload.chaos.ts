import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sendRequest, Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { fleetCommand, logged, Release, startGroup } from './group.ts'

test('repeated reloads lose no request: GET and POST, kept-alive and new connections', async (t) => {
  const release = new Release()
  const group = await startGroup(release, ['--workers', '2'])
  const traffic = new Traffic(group.port)
  t.after(() => traffic.halt())
  for (let round = 2; round <= 21; round++) {
    release.deploy({ version: `${round}` })
    // Half of them by signal, half by the command, which waits.
    if (round % 2 === 0) {
      await group.kill('SIGHUP')
      await until(() => logged(group, 'reloaded').length === round - 1, { what: 'the reload' })
    } else {
      const reload = fleetCommand(['reload', '--control', release.control])
      assert.deepEqual(await reload.exit, { code: 0, signal: null }, reload.stderr)
    }
    assert.equal((await sendRequest(group.port, 'GET', '/')).version, `${round}`)
  }
  await traffic.stop(release.orders)
  t.diagnostic(`${traffic.requests} requests while each of 2 workers was replaced 20 times: 0 failed`)
  assert.ok(traffic.versions.size > 2)
  await group.kill('SIGTERM')
  assert.deepEqual(group.ended, { code: 0, signal: null })
})

test('rejects a build that exits, hangs or never becomes ready; the old workers keep serving', async (t) => {
  const release = new Release('good')
  const group = await startGroup(release, ['--workers', '2', '--ready-timeout', '6000'])
  await until(() => logged(group, 'worker ready').length === 2, { what: 'both workers' })
  const pids = new Set(logged(group, 'worker ready').map(({ workerPid }) => workerPid))
  const traffic = new Traffic(group.port, 4)
  t.after(() => traffic.halt())
  const bad: [why: string, deploy: () => void, expected: RegExp][] = [
    ['throws', () => release.write('throw new Error("a bad build")'), /ended before it was ready/],
    ['does not compile', () => release.write('this is no program'), /ended before it was ready/],
    ['hangs', () => release.write('setInterval(() => {}, 1000)'), /was not ready within 6000 ms/],
    ['is never ready', () => release.deploy({ version: 'bad', neverReady: true }), /was not ready within 6000 ms/],
  ]
  for (const [why, deploy, expected] of bad) {
    deploy()
    const reload = fleetCommand(['reload', '--control', release.control])
    assert.deepEqual(await reload.exit, { code: 1, signal: null }, why)
    assert.match(reload.stderr, expected, why)
    assert.match(reload.stderr, /FLEET_ERR_RELOAD_FAILED .*the old one keeps serving/, why)
  }
  assert.equal(logged(group, 'reload abandoned').length, bad.length)
  for (let i = 0; i < 10; i++) assert.ok(pids.has((await sendRequest(group.port, 'GET', '/')).pid))
  assert.deepEqual(traffic.versions, new Set(['good']))

  release.deploy({ version: 'fixed' })
  const fixed = fleetCommand(['reload', '--control', release.control])
  assert.equal((await fixed.exit).code, 0, fixed.stderr)
  assert.equal((await sendRequest(group.port, 'GET', '/')).version, 'fixed')
  await traffic.stop(release.orders)
  assert.deepEqual(traffic.versions, new Set(['good', 'fixed']))
})

test('requests in flight on an old worker complete before it exits', async () => {
  const release = new Release('old')
  const group = await startGroup(release, ['--workers', '1'])
  const slow = sendRequest(group.port, 'GET', '/slow?ms=1500')
  release.deploy({ version: 'new' })
  await group.kill('SIGHUP')
  await until(async () => (await sendRequest(group.port, 'GET', '/')).version === 'new', { what: 'the new build' })
  assert.equal((await slow).version, 'old')
})

test('several reloads requested during a reload become one that follows it', async () => {
  const release = new Release()
  const group = await startGroup(release, ['--workers', '1'])
  for (let i = 0; i < 5; i++) await group.kill('SIGHUP')
  const reload = fleetCommand(['reload', '--control', release.control])
  assert.equal((await reload.exit).code, 0)
  const { length } = logged(group, 'reloaded')
  assert.ok(length >= 1 && length <= 3, `${length} reloads`)
})

test('reloads an app without this package too', async () => {
  const release = new Release()
  const plain = (version: number): string => `
    import { createServer } from 'node:http'
    const server = createServer((_, response) => response.end('{"version":"${version}","pid":' + process.pid + '}'))
    server.listen(process.env.PORT, '127.0.0.1')
    process.on('SIGTERM', () => server.close(() => process.exit(0)))
  `
  release.write(plain(1))
  const group = await startGroup(release, ['--workers', '2'])
  const traffic = new Traffic(group.port, 4)
  release.write(plain(2))
  assert.equal((await fleetCommand(['reload', '--control', release.control]).exit).code, 0)
  assert.equal((await sendRequest(group.port, 'GET', '/')).version, '2')
  await traffic.halt()
  await group.kill('SIGTERM')
  assert.deepEqual(group.ended, { code: 0, signal: null })
})

test('`--check` reports whether a build becomes ready, without touching a running group', async () => {
  const release = new Release('1')
  const group = await startGroup(release, ['--workers', '1'])
  const check = async (): Promise<number | null> => {
    const command = fleetCommand(['start', release.file, '--check', '--ready-timeout', '6000'], { PORT: group.port })
    return (await command.exit).code
  }
  assert.equal(await check(), 0)
  release.write('throw new Error("a bad build")')
  assert.equal(await check(), 1)
  release.deploy({ version: '2', neverReady: true })
  assert.equal(await check(), 1)
  assert.equal((await sendRequest(group.port, 'GET', '/')).version, '1')
})
