import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

const unit = new URL('../../deploy/systemd/fastify-fleet.service', import.meta.url).pathname
const text = readFileSync(unit, 'utf8')
const directive = (name: string): string | undefined => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1]

test('the unit allows more time for the drain than the app needs', () => {
  const shutdownSeconds = Number(/SHUTDOWN_TIMEOUT=(\d+)/.exec(text)?.[1]) / 1_000
  assert.ok(Number(directive('TimeoutStopSec')) > shutdownSeconds + 2)
  assert.equal(directive('KillMode'), 'mixed')
})

test('start and reload use the same socket, in a folder that the unit creates', () => {
  const path = `%t/${directive('RuntimeDirectory')}/control.sock`
  assert.ok(directive('ExecStart')?.endsWith(`--control ${path}`))
  assert.ok(directive('ExecReload')?.endsWith(`--control ${path}`))
})

test('systemd verifies the unit without a complaint', (t) => {
  const { error, status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', unit], { encoding: 'utf8' })
  if (error) t.diagnostic(`systemd-analyze is not here (${error.message}): the unit was not verified by systemd`)
  else assert.deepEqual({ status, said: stdout + stderr }, { status: 0, said: '' })
})
