import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sendRequest } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { fleetCommand, logged, Release, startGroup } from './group.ts'

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
  release.write(plain(2))
  assert.equal((await fleetCommand(['reload', '--control', release.control]).exit).code, 0)
  assert.equal((await sendRequest(group.port, 'GET', '/')).version, '2')
  await group.kill('SIGTERM')
  assert.deepEqual(group.ended, { code: 0, signal: null })
})

test('`--check` reports whether a build becomes ready, without touching a running group', async () => {
  const release = new Release('1')
  const group = await startGroup(release, ['--workers', '1'])
  const check = async (readyTimeoutMs = '30000'): Promise<number | null> => {
    const args = ['start', release.file, '--check', '--ready-timeout', readyTimeoutMs]
    const command = fleetCommand(args, { PORT: group.port })
    return (await command.exit).code
  }
  assert.equal(await check(), 0)
  release.write('throw new Error("a bad build")')
  assert.equal(await check(), 1)
  release.deploy({ version: '2', neverReady: true })
  assert.equal(await check('3000'), 1)
  assert.equal((await sendRequest(group.port, 'GET', '/')).version, '1')
})
