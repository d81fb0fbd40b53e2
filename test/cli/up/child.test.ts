import assert from 'node:assert/strict'
import { existsSync, statSync } from 'node:fs'
import { Socket } from 'node:net'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { launch, stopAll, temporaryFolder } from '../../../src/cli/up/child.ts'
import { isAlive } from '../../helpers/alive.ts'
import { forkApp } from '../../helpers/fork-app.ts'
import { until } from '../../helpers/until.ts'

const sh = (script: string) => launch('/bin/sh', ['-c', script])

test('collects output, exit code and signal', async () => {
  const child = sh('echo out; echo err >&2; exit 7')
  assert.deepEqual(await child.exit, { code: 7, signal: null })
  assert.equal(child.stdout, 'out\n')
  assert.equal(child.stderr, 'err\n')
  const killed = sh('exec sleep 60')
  await killed.kill('SIGTERM')
  assert.deepEqual(killed.ended, { code: null, signal: 'SIGTERM' })
})

test('waitFor returns the match, or rejects with the output of the process', async () => {
  const child = sh('echo listening on 4001; exec sleep 60')
  assert.equal((await child.waitFor(/on (\d+)/))[1], '4001')
  await assert.rejects(child.waitFor(/never/, 20), /no \/never\/ within 20 ms; its output:\nlistening/)
  await child.stop()
  await assert.rejects(sh('echo bad news >&2; exit 1').waitFor(/good/), /ended without \/good\/; its output:\nbad news/)
})

test('stop ends the whole group, even if it ignores the signal or is stopped', async (t) => {
  const stubborn = sh("trap '' TERM; sleep 60 & echo $!; wait; sleep 60")
  const grandchild = Number((await stubborn.waitFor(/\d+/))[0])
  await stubborn.stop(50)
  assert.deepEqual(stubborn.ended, { code: null, signal: 'SIGKILL' })
  await until(() => !isAlive(grandchild), { what: 'the end of the grandchild' })
  const stopped = sh('exec sleep 60')
  await stopped.kill('SIGSTOP')
  const kill = t.mock.method(process, 'kill')
  await stopped.stop()
  assert.deepEqual(
    kill.mock.calls.slice(0, 2).map((call) => call.arguments),
    [
      [-stopped.pid, 'SIGTERM'],
      [-stopped.pid, 'SIGCONT'],
    ],
  )
  assert.deepEqual(stopped.ended, { code: null, signal: 'SIGTERM' }, 'it was continued')
})

test('stop ends the descendants of a killed process', async () => {
  const parent = sh('sleep 60 & echo $!; wait')
  const orphan = Number((await parent.waitFor(/\d+/))[0])
  await parent.kill('SIGKILL')
  assert.ok(isAlive(orphan))
  await parent.stop()
  await until(() => !isAlive(orphan), { what: 'the end of the orphan' })
})

test('keeps the last mebibyte of the output at least, and two at most', async () => {
  const child = sh('head -c 1000000 /dev/zero | tr "\\0" a; head -c 3000000 /dev/zero | tr "\\0" b; echo end')
  await child.exit
  const { length } = child.stdout
  assert.ok(length >= 2 ** 20 && length <= 2 ** 21, String(length))
  assert.match(child.stdout, /^b+end\n$/)
})

test('adds variables to the environment and removes others', async (t) => {
  process.env.FLEET_TEST_GONE = 'x'
  t.after(() => void delete process.env.FLEET_TEST_GONE)
  const env = { FLEET_TEST_NEW: 'y', FLEET_TEST_GONE: undefined }
  const child = launch('/bin/sh', ['-c', 'echo "$FLEET_TEST_NEW $FLEET_TEST_GONE $PWD $PATH"'], { env, cwd: '/' })
  await child.exit
  assert.equal(child.stdout, `y  / ${process.env.PATH}\n`)
})

test('stop sends the signal of the program, and waits for one that must not be interrupted', async () => {
  const interrupted = launch('/bin/sleep', ['60'], { stopSignal: 'SIGINT' })
  await interrupted.stop()
  assert.deepEqual(interrupted.ended, { code: null, signal: 'SIGINT' })
  const installing = launch('/bin/sh', ['-c', 'sleep 0.2; echo done'], { uninterrupted: true })
  await installing.stop(1)
  assert.deepEqual([installing.ended, installing.stdout], [{ code: 0, signal: null }, 'done\n'])
})

test('stop kills what ignores the signal after the given time, ten seconds by default', async (t) => {
  for (const [given, ms] of [
    [undefined, 10_000],
    [70, 70],
  ] as const) {
    const stubborn = sh("trap '' TERM; echo ready; exec sleep 60")
    await stubborn.waitFor(/ready/)
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const stopped = stubborn.stop(given)
    t.mock.timers.tick(ms - 1)
    assert.equal(stubborn.ended, undefined)
    t.mock.timers.tick(1)
    const { signal } = await until(() => stubborn.ended, { what: 'its end' })
    assert.equal(signal, 'SIGKILL')
    await stopped
    t.mock.timers.reset()
  }
})

test('the guard of the children knows each one until its group is gone, except those that must not be interrupted', async (t) => {
  const told: string[] = []
  const { write } = Socket.prototype
  t.mock.method(Socket.prototype, 'write', function (this: Socket, ...args: Parameters<typeof write>) {
    if (typeof args[0] === 'string') told.push(args[0])
    return write.apply(this, args)
  } as typeof write)
  const usual = launch('/bin/true', [], { stopSignal: 'SIGINT' })
  await usual.gone
  const installing = launch('/bin/true', [], { uninterrupted: true })
  await installing.gone
  assert.deepEqual(
    told.filter((text) => /^[+-] /.test(text)),
    [`+ ${usual.pid} INT\n`, `- ${usual.pid}\n`, `- ${installing.pid}\n`],
  )
})

test('stop signals no group that is gone, whose id another one may have', async (t) => {
  const child = sh('exit 0')
  await child.gone
  await new Promise(setImmediate)
  const kill = t.mock.method(process, 'kill', () => true)
  await child.stop()
  assert.equal(kill.mock.callCount(), 0)
})

test('launch throws for a missing program', () => {
  assert.throws(() => launch('/nowhere/program', []), /\/nowhere\/program could not be started/)
})

for (const end of ['SIGKILL', 'exit', 'throw'] as const) {
  test(`no child outlives its parent after ${end}`, async () => {
    const parent = forkApp(new URL('parent.fixture.ts', import.meta.url), { args: [end], env: { PATH: '' } })
    const [, pids = '', folder = ''] = await parent.waitFor(/started ([\d ]+) in (.*)\n/)
    const children = pids.split(' ').map(Number)
    assert.ok(end !== 'SIGKILL' || children.every(isAlive))
    if (end === 'SIGKILL') await parent.kill('SIGKILL')
    await parent.exit
    await until(() => !children.some(isAlive), { what: 'the end of the children' })
    await until(() => !existsSync(folder), { what: 'the end of the folder' })
  })
}

test('a child that ignores its signal does not outlive a killed parent either', async () => {
  const parent = forkApp(new URL('parent.fixture.ts', import.meta.url), { args: ['stubborn'] })
  const [, pid] = await parent.waitFor(/started (\d+) in /)
  await parent.kill('SIGKILL')
  await until(() => !isAlive(Number(pid)), { timeoutMs: 30_000, what: 'the end of the child' })
})

test('temporary folders are private', () => {
  const folder = temporaryFolder('x')
  assert.equal(statSync(folder).mode & 0o777, 0o700)
  assert.equal(statSync(dirname(folder)).mode & 0o777, process.getuid?.() === 0 ? 0o711 : 0o700)
  assert.notEqual(folder, temporaryFolder('x'))
})

test('at the end all children are stopped, their folders are removed, and no other one starts', async () => {
  const folder = temporaryFolder('x')
  const child = sh('exec sleep 60')
  await stopAll()
  assert.deepEqual([child.ended?.signal, existsSync(folder)], ['SIGTERM', false])
  assert.throws(() => sh('true'), /\/bin\/sh cannot start while this process exits/)
})
