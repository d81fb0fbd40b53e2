import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { Target } from '../../../src/cli/target.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { LocalInstance, type LocalInstanceOptions } from '../../../src/cli/up/instances.ts'
import { isAlive } from '../../helpers/alive.ts'
import { mockLimits } from '../../helpers/clock.ts'
import { freePort } from '../../helpers/free-port.ts'
import { until } from '../../helpers/until.ts'
import { response } from '../fleet-test/stand-ins.ts'
import { program } from './program.ts'

/** What an instance says of a start that takes long, as on a busy machine. */
const slow = / is still starting$| gets no response \(/

async function instance(t: TestContext, number = 1, more: Partial<LocalInstanceOptions> = {}) {
  const app = program(t)
  const events: string[] = []
  const port = await freePort()
  const env = { FOLDER: app.folder, ...more.env }
  const one = new LocalInstance(number, port, {
    file: app.file,
    onEvent: (line) => void (slow.test(line) || events.push(line)),
    ...more,
    env,
  })
  t.after(() => one.stop(0))
  return { ...app, one, port, events }
}

describe('an instance of fleet up', () => {
  it('listens on its port of 127.0.0.1, with its own id, and the ports for operators and agents that belong to its number', async (t) => {
    const { one, port, starts } = await instance(t, 3, {
      adminPort: 9_001,
      agentPort: 9_101,
      env: { FLEET_NAME: 'shop' },
    })
    await one.start()
    const [env] = starts()
    const { PORT, HOST, FLEET_ADMIN_PORT, FLEET_ADMIN_HOST, FLEET_AGENT_PORT, INSTANCE_ID, FLEET_NAME } = env ?? {}
    assert.deepEqual(
      { PORT, HOST, FLEET_ADMIN_PORT, FLEET_ADMIN_HOST, FLEET_AGENT_PORT, FLEET_NAME },
      {
        PORT: `${port}`,
        HOST: '127.0.0.1',
        FLEET_ADMIN_PORT: '9003',
        FLEET_ADMIN_HOST: '127.0.0.1',
        FLEET_AGENT_PORT: '9103',
        FLEET_NAME: 'shop',
      },
    )
    assert.match(INSTANCE_ID ?? '', /^app-3-[0-9a-f]{4}$/)
    assert.equal(one.id, INSTANCE_ID)
    assert.ok(one.pid && isAlive(one.pid))
    assert.deepEqual(
      [one.url, one.operatorsUrl, one.agentPort],
      [`http://127.0.0.1:${port}`, 'http://127.0.0.1:9003', 9_103],
    )
    assert.equal(await one.stop(10_000), true)
    assert.equal(isAlive(one.pid), false)
  })

  it('has one port if there is none for operators, or a free one was asked for', async (t) => {
    for (const adminPort of [undefined, 0]) {
      const { one, port, starts } = await instance(t, 1, { adminPort })
      await one.start()
      assert.deepEqual([starts()[0]?.FLEET_ADMIN_PORT, starts()[0]?.FLEET_AGENT_PORT], [undefined, undefined])
      assert.equal(one.operatorsUrl, `http://127.0.0.1:${port}`)
    }
  })

  it('is started again when it ends, with another id, and at once if it ended with 0', async (t) => {
    const killed: unknown[] = []
    const { one, port, events, starts } = await instance(t, 1, { onKilled: (...given) => void killed.push(given) })
    await one.start()
    const [before, pid] = [one.id, one.pid]
    await fetch(`http://127.0.0.1:${port}/crash`).catch(() => {})
    await until(() => events.some((line) => line.endsWith(`is ready, process ${one.pid}`)), { what: 'its return' })
    assert.match(
      events[0] ?? '',
      new RegExp(`^${before} ended with 3; it is started again in [1-3]\\d\\d ms\\nno output$`),
    )
    assert.notEqual(one.id, before)
    assert.notEqual(one.pid, pid)
    process.kill(one.pid as number, 'SIGTERM')
    await until(() => starts().length === 3, { what: 'the third start' })
    assert.match(events.at(2) ?? '', /ended with 0; it is started again in 0 ms$/)
    await until(() => events.length === 4, { what: 'its second return' })
    const last = one.id
    process.kill(one.pid as number, 'SIGKILL')
    await until(() => killed.length === 2, { what: 'the report' })
    assert.deepEqual(killed, [
      [before, 'exit code 3'],
      [last, 'SIGKILL'],
    ])
  })

  it('is started again after a pause if it ends with 0 before it is ready', async (t) => {
    const { one, obey, events } = await instance(t)
    await one.start()
    obey('exit 0')
    process.kill(one.pid as number, 'SIGTERM')
    await until(() => events.length >= 2, { what: 'the end of the second one' })
    assert.match(events[0] ?? '', /ended with 0; it is started again in 0 ms$/)
    assert.match(events[1] ?? '', /ended with 0; it is started again in [1-3]\d\d ms$/)
  })

  it('is started again after ten seconds at most, however often it has ended', async (t) => {
    const { file, folder } = program(t)
    const port = await freePort()
    // One step to the longest pause, which otherwise takes several ends.
    t.mock.method(Math, 'random', () => 1_000)
    const events: string[] = []
    const onEvent = (line: string): void => void (slow.test(line) || events.push(line))
    const one = new LocalInstance(1, port, { file, env: { FOLDER: folder }, onEvent })
    t.after(() => one.stop(0))
    await one.start()
    await fetch(`http://127.0.0.1:${port}/crash`).catch(() => {})
    await until(() => events.length > 0, { what: 'its end' })
    assert.match(events[0] ?? '', /ended with 3; it is started again in 10000 ms$/m)
  })

  it('is not started again while it stops, and reports an exit other than 0', async (t) => {
    const { one, events, starts } = await instance(t, 1, { env: { CODE: '4' } })
    await one.start()
    assert.equal(await one.stop(10_000), false)
    assert.deepEqual([events, starts().length], [[], 1])
  })

  it('is killed two seconds after its time', async (t) => {
    const { one, obey } = await instance(t)
    await one.start()
    obey('hang')
    assert.equal(await one.stop(-1_900), false)
    assert.equal(isAlive(one.pid as number), false)
  })

  it('fails with its last output if it ends before it is ready, or if waiting is pointless', async (t) => {
    const { one, obey, starts } = await instance(t)
    obey('exit 5')
    await assert.rejects(one.start(), { code: 'FLEET_ERR_SERVICE_FAILED', message: /app\.cjs ended with 5: one\ntwo$/ })
    assert.equal(starts().length, 1)
    const other = await instance(t)
    other.obey('401')
    await assert.rejects(other.one.start(), {
      code: 'FLEET_ERR_SERVICE_FAILED',
      message: /app\.cjs did not become ready: GET \/ready responds 401$/,
    })
  })

  it('is not ready after a minute, and one that responds 4xx has half a second to change that', async (t) => {
    mockLimits(t)
    const file = join(temporaryFolder('instance'), 'app')
    writeFileSync(file, '#!/bin/sh\nexec sleep 600\n', { mode: 0o755 })
    const { execPath } = process
    process.execPath = file
    t.after(() => {
      process.execPath = execPath
    })
    let probes = 0
    let statuses = [503]
    t.mock.method(Target.prototype, 'request', async () => response({ status: statuses[probes++] ?? statuses.at(-1) }))
    const late = new LocalInstance(1, 4_001, { file, env: {}, onEvent: () => {} })
    t.after(() => late.stop(0))
    const failed = assert.rejects(late.start(), {
      message: /did not become ready/,
    })
    await until(() => probes > 1, { what: 'the first probes' })
    t.mock.timers.tick(59_999)
    const before = probes
    await until(() => probes > before + 1, { what: 'another probe' })
    t.mock.timers.tick(1)
    await failed
    ;[probes, statuses] = [0, [401, 404, 200]]
    const other = new LocalInstance(1, 4_001, { file, env: {}, onEvent: () => {} })
    t.after(() => other.stop(0))
    await other.start()
    assert.equal(probes, 3)
  })

  it('is awaited while it responds 503, with the reason', async (t) => {
    const { one, obey, events } = await instance(t)
    obey('503')
    const started = one.start()
    await until(() => events.length > 0, { what: 'the reason' })
    assert.equal(events[0], `${one.id} is not ready: GET /ready responds 503`)
    obey('200')
    await started
    assert.equal(events.length, 1)
  })
})
