import assert from 'node:assert/strict'
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { test } from 'node:test'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { serviceNotifier } from '../../src/host/notify.ts'
import { sendRequest } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { logged, Release, startGroup } from './group.ts'

/** A folder with a slow stand-in for systemd's helper that records what it should send. */
function standIn(seconds: number): { folder: string; sent: () => string[] } {
  const folder = temporaryFolder('systemd')
  const log = join(folder, 'sent')
  writeFileSync(join(folder, 'systemd-notify'), `#!/bin/sh\n/bin/sleep ${seconds}\necho "$@" >> ${log}\n`)
  chmodSync(join(folder, 'systemd-notify'), 0o755)
  return { folder, sent: () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []) }
}

test('does nothing without a service manager', async () => {
  await serviceNotifier(undefined, assert.fail)('READY=1')
})

test('notifies the service manager of start, reload and stop in order, with regular keep-alive pings', async () => {
  // Slower than the keep-alive interval: pings must neither delay nor drop notifications.
  const { folder, sent } = standIn(0.1)
  const release = new Release()
  const group = await startGroup(release, ['--workers', '1'], {
    NOTIFY_SOCKET: '/run/nobody',
    WATCHDOG_USEC: 40_000,
    PATH: `${folder}${delimiter}${process.env.PATH}`,
  })
  await until(() => sent().filter((line) => line === 'WATCHDOG=1').length >= 3, { what: 'the third sign of life' })
  await group.kill('SIGHUP')
  await until(() => logged(group, 'reloaded').length === 1, { what: 'the reload' })
  await sendRequest(group.port, 'POST', '/crash').catch(() => {})
  await until(() => sent().includes('STATUS=0 of 1 workers serve'), { what: 'the end of the worker' })
  await until(() => sent().at(-1) !== 'STATUS=0 of 1 workers serve' && logged(group, 'worker ready').length === 3, {
    what: 'its successor',
  })
  await group.kill('SIGTERM')
  const states = sent().filter((line) => /^(READY|RELOADING|STOPPING)/.test(line))
  const ready = 'READY=1 STATUS=1 of 1 workers serve'
  assert.deepEqual(states, [ready, 'RELOADING=1', ready, 'STOPPING=1'])
  assert.deepEqual(group.ended, { code: 0, signal: null })
})

test('does not wait for a helper that hangs', async (t) => {
  const folder = temporaryFolder('systemd')
  writeFileSync(join(folder, 'systemd-notify'), '#!/bin/sh\nexec /bin/sleep 600\n', { mode: 0o755 })
  const { PATH } = process.env
  t.after(() => {
    process.env.PATH = PATH
  })
  process.env.PATH = folder
  const notify = serviceNotifier('/run/nobody', assert.fail)
  let isSent = false
  const sending = notify('READY=1').then(() => {
    isSent = true
  })
  await new Promise(setImmediate)
  assert.equal(isSent, false)
  // After five seconds.
  await sending
})

test('warns once when the helper is missing, and the group serves', async () => {
  const release = new Release()
  const group = await startGroup(release, ['--workers', '1'], { NOTIFY_SOCKET: '/run/nobody', PATH: '/nowhere' })
  await until(() => group.stdout.includes('systemd-notify cannot be run'), { what: 'the warning' })
  await group.kill('SIGTERM')
  assert.deepEqual(group.ended, { code: 0, signal: null })
  assert.equal(group.stdout.split('systemd-notify cannot be run').length, 2)
})
