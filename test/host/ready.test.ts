import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { listenOnceReady, onceReady } from '../../src/host/ready.ts'
import { jsonLog } from '../../src/host/run.ts'
import { health } from '../../src/instance/health/index.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { until } from '../helpers/until.ts'

async function build(t: TestContext): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(lifecycle, { signals: false })
  await app.register(health, { memory: false, eventLoop: false })
  return app
}

const quick = { intervalMs: 100, rise: 1, fall: 1 }
/** A critical check that the test lets pass. */
function addCheck(app: FastifyInstance): { runs: number; up: boolean } {
  const check = { runs: 0, up: false }
  app.health.add(
    'database',
    () => {
      check.runs++
      return check.up
    },
    quick,
  )
  return check
}

const anywhere = { port: 0, host: '127.0.0.1' }

describe('a replacement', () => {
  it('listens once its critical checks pass, whatever others report', async (t) => {
    const app = await build(t)
    app.health.add('extra', () => false, { ...quick, critical: false })
    const check = addCheck(app)
    listenOnceReady(app, 600_000)
    const listening = app.listen(anywhere)
    await until(() => check.runs >= 2, { what: 'two runs of the check' })
    assert.deepEqual([app.server.listening, app.health.reports.database?.status], [false, 'down'])
    check.up = true
    await listening
    assert.equal(app.server.listening, true)
  })

  it('exits with 1, without having listened, if they do not pass in time', async (t) => {
    const app = await build(t)
    const exits: unknown[] = []
    t.mock.method(process, 'exit', ((code: number) => {
      exits.push(code, app.server.listening)
      throw new Error('exit')
    }) as never)
    const fatal = t.mock.method(app.log, 'fatal')
    app.health.add('database', () => false, quick)
    listenOnceReady(app, 50)
    await assert.rejects(app.listen(anywhere))
    assert.deepEqual(exits, [1, false])
    const logged = fatal.mock.calls.map((call) => call.arguments as unknown[])
    assert.deepEqual(logged, [[{ checks: ['database'], timeoutMs: 50 }, 'not ready in time']])
    assert.equal(app.fleet.state, 'closed')
  })
})

describe('ready', () => {
  it('is reported once, when the instance serves and its critical checks pass', async (t) => {
    const app = await build(t)
    let ready = 0
    const check = addCheck(app)
    onceReady(app, () => void ready++)
    await app.listen(anywhere)
    await until(() => check.runs >= 2)
    assert.equal(ready, 0)
    check.up = true
    await until(() => ready > 0)
    const before = check.runs
    await until(() => check.runs > before + 1)
    assert.equal(ready, 1)
  })

  it('follows the state of an app without health checks', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(lifecycle, { signals: false })
    const states: string[] = []
    onceReady(app, () => void states.push(app.fleet.state))
    await app.ready()
    await app.listen(anywhere)
    await until(() => states.length > 0)
    assert.deepEqual(states, ['serving'])
  })
})

it('the log of the group has the form of pino', () => {
  const lines: Record<string, unknown>[] = []
  const before = Date.now()
  const log = jsonLog((line) => void lines.push(JSON.parse(line)))
  log.info({ worker: 1 }, 'a')
  log.warn({}, 'b')
  log.error({ err: new TypeError('no'), kept: 2 }, 'c')
  assert.ok(lines.every(({ time }) => Number(time) >= before && Number(time) <= Date.now()))
  const own = { pid: process.pid, name: 'fleet' }
  assert.deepEqual(
    lines.map(({ time: _, ...line }) => line),
    [
      { level: 30, ...own, worker: 1, msg: 'a' },
      { level: 40, ...own, msg: 'b' },
      { level: 50, ...own, kept: 2, err: { type: 'TypeError', message: 'no' }, msg: 'c' },
    ],
  )
})
