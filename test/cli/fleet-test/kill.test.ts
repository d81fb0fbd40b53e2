import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import command from '../../../src/cli/commands/test.ts'
import { kill } from '../../../src/cli/smoke/kill.ts'
import type { Report } from '../../../src/cli/smoke/report.ts'
import { timelineChart } from '../../../src/cli/smoke/timeline-chart.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { createProxy } from '../../../src/edge/http/server.ts'
import { type App, forkApp } from '../../helpers/fork-app.ts'
import { runCommand } from '../commands.ts'
import { assertSchema } from './schema.ts'
import { context, inTurn, recorder, requestClock, target } from './stand-ins.ts'

const folder = temporaryFolder('kill')

/** Real instances behind the real load balancer. */
async function fleet(t: TestContext, ids: readonly string[]): Promise<{ front: string; apps: readonly App[] }> {
  const fixture = new URL('instance.fixture.ts', import.meta.url)
  const apps = ids.map((id) => forkApp(fixture, { env: { INSTANCE_ID: id } }))
  const targets = await Promise.all(apps.map(async (app) => (await app.waitFor(/listening at (\S+)/))[1] ?? ''))
  const proxy = createProxy({ targets })
  t.after(() => proxy.close())
  return { front: await proxy.listen({ port: 0, host: '127.0.0.1' }), apps }
}

/** Runs the check on a clock that each request moves by 10 ms; the command takes `b` out, after its first requests failed. */
async function run(t: TestContext, failures: number, options: { maxErrorRate?: number; command?: string } = {}) {
  const flag = join(folder, `${failures}-${Math.random()}`)
  const tick = requestClock(t, 10)
  let turn = 0
  let left = failures
  const front = target(() => {
    tick()
    const instanceId = turn++ % 2 === 0 ? 'a' : 'b'
    if (instanceId === 'a' || !existsSync(flag)) return { instanceId }
    return left-- > 0 ? { status: 0, error: 'ECONNRESET' } : { instanceId: 'a' }
  })
  const { results, said } = recorder()
  const { maxErrorRate, command = `touch ${flag}` } = options
  const timeline = await kill(context({ front, maxErrorRate }), command, results, 5_000)
  return { said: said(), timeline }
}

describe('fleet test --kill', () => {
  it('kills an instance without a failed request, and draws the failover', async (t) => {
    const { front, apps } = await fleet(t, ['api-1', 'api-2', 'api-3'])
    const html = join(folder, 'report.html')
    const ends = `kill -9 ${apps[1]?.pid}`
    const { code, stdout, stderr } = await runCommand(command, front, '--kill', ends, '--html', html, '--json')
    assert.equal(code, 0, stdout + stderr)
    await assertSchema(stdout)
    const { findings, timelines = [] } = JSON.parse(stdout) as Report
    assert.deepEqual([...new Set(findings.map(({ check }) => check))], ['kill'])
    assert.match(
      findings.map(({ text }) => text).join(),
      /^api-2 responded for .*,\d+ requests meanwhile, none failed$/s,
    )
    const [timeline] = timelines
    assert.ok(timeline)
    assert.deepEqual(
      timeline.instances.map(({ instanceId }) => instanceId),
      ['api-1', 'api-2', 'api-3'],
    )
    assert.deepEqual(
      timeline.events.map(({ text }) => text),
      ['--kill begins', '--kill has exited'],
    )
    const at = Math.floor((timeline.events[1]?.atMs ?? 0) / timeline.bucketMs)
    const after = (i: number): number =>
      (timeline.instances[i]?.requests ?? []).slice(at + 5).reduce((a, b) => a + b, 0)
    assert.ok(after(0) > 0 && after(2) > 0)
    assert.equal(after(1), 0)
    const page = await readFile(html, 'utf8')
    assert.match(page, /Requests while an instance was killed<\/h2>/)
    assert.match(page, /api-2: \d+<\/span>.*failed: 0<\/span>/)
  })

  it('fails when requests fail, unless they are as few as allowed', async (t) => {
    const some = await run(t, 5)
    assert.match(some.said[0] ?? '', /^pass b responded for \d+\.\d s after the command began; the others took over$/)
    assert.match(
      some.said[1] ?? '',
      /^fail 5 of \d+ requests failed, the last \d+\.\d s after it began: 5 × ECONNRESET$/,
    )
    assert.equal(
      some.timeline?.failed.reduce((a, b) => a + b, 0),
      5,
    )
    t.mock.restoreAll()
    const allowed = await run(t, 5, { maxErrorRate: 0.5 })
    assert.match(allowed.said[1] ?? '', /^pass 5 of \d+ requests failed.*; [\d.]+ %, which --max-error-rate allows$/)
  })

  it('fails when requests still fail when the time is over', async (t) => {
    const { said } = await run(t, Number.POSITIVE_INFINITY)
    assert.equal(said[1], 'fail requests still fail 5.0 s later')
    assert.match(
      said[2] ?? '',
      /^fail \d+ of \d+ requests failed, the last \d+\.\d s after it began: \d+ × ECONNRESET$/,
    )
    assert.equal(said[3], '→ let the front repeat safe requests on another instance, or pass --max-error-rate')
  })

  it('counts failures before the command apart, and mentions an instance that is back', async (t) => {
    const tick = requestClock(t, 10)
    const { results, said, list } = recorder()
    const flag = join(folder, 'back')
    let turn = 0
    const front = target(() => {
      tick()
      if (turn++ === 5) return { status: 503 }
      const isOut = existsSync(flag) && list.length === 0
      return { instanceId: turn % 2 === 0 || isOut ? 'a' : 'b' }
    })
    await kill(context({ front }), `touch ${flag}`, results, 30_000)
    assert.match(said()[0] ?? '', /^pass b responded for/)
    assert.equal(said()[1], 'info b responded again before the end of this check')
    assert.match(said()[2] ?? '', /^fail 1 of \d+ requests failed, 1 of them before the command: 1 × 503$/)
  })

  it('ends a command that takes longer than the time', async (t) => {
    const now = performance.now.bind(performance)
    t.mock.method(performance, 'now', () => now() * 10)
    const next = inTurn(2)
    const front = target(() => ({ instanceId: next() }))
    const hanging = kill(context({ front }), "trap '' TERM; exec sleep 600", recorder().results, 200)
    await assert.rejects(hanging, { code: 'FLEET_ERR_USAGE', message: /--kill ended with SIGKILL$/ })
  })

  it('fails when the command ends no instance', async (t) => {
    const { said } = await run(t, 0, { command: 'true' })
    assert.match(said[0] ?? '', /^fail every instance still responded 5\.0 s after the command$/)
  })

  it('does not run when the command fails, and says why', async (t) => {
    const failing = run(t, 0, { command: 'echo no such container >&2; exit 3' })
    await assert.rejects(failing, { code: 'FLEET_ERR_USAGE', message: /--kill ended with 3: no such container$/ })
    const { code, stderr } = await runCommand(command, 'http://127.0.0.1:1', '--kill', '')
    assert.equal(code, 2)
    assert.match(stderr, /--kill needs a command/)
  })

  it('keeps the end of what the command prints, at most a thousand characters', async (t) => {
    const command = 'head -c 1000000 /dev/zero | tr "\\0" x >&2; exit 3'
    await assert.rejects(run(t, 0, { command }), { message: /--kill ended with 3: x{1,1000}$/ })
  })

  it('needs a second instance', async (t) => {
    t.mock.method(
      performance,
      'now',
      (
        (now) => () =>
          now() * 100
      )(performance.now.bind(performance)),
    )
    const { results, said } = recorder()
    await kill(context({ front: target(() => ({ instanceId: 'a' })) }), 'true', results)
    assert.deepEqual(said(), ['fail 1 instance responded: no other could take over'])
  })
})

describe('the chart of a failover', () => {
  const chart = timelineChart({
    check: 'kill',
    bucketMs: 100,
    instances: [
      { instanceId: 'a', requests: [2, 4, 0] },
      { instanceId: '<b>', requests: [2, 0, 0] },
    ],
    failed: [0, 0, 1],
    events: [{ atMs: 150, text: '"kill"' }],
  })

  it('stacks the instances by interval, with the failures on top and marked below', () => {
    assert.ok(chart.includes('<path class="s0" d="M0 100h1v-50h-1zM1 100h1v-100h-1z"/>'), chart)
    assert.ok(chart.includes('<path class="s1" d="M0 50h1v-50h-1z"/>'))
    assert.ok(chart.includes('<path class="bad" d="M2 100h1v-25h-1z"/>'))
    assert.ok(chart.includes('<path class="bad" d="M2 103h1v7h-1z"/>'))
    assert.ok(chart.includes('<path class="event" d="M1.5 0V100"/>'))
  })

  it('has the figures as text, and escapes what instances say', () => {
    assert.match(chart, /a: 6<.*&lt;b&gt;: 2<.*failed: 1 \(from 0\.2 s to 0\.3 s\)</)
    assert.match(chart, /0\.1 s: &quot;kill&quot;|0\.2 s: &quot;kill&quot;/)
    assert.doesNotMatch(chart, /<b>/)
  })
})
