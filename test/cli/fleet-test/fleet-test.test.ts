import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import command from '../../../src/cli/commands/test.ts'
import { Operators } from '../../../src/cli/operators.ts'
import { failover } from '../../../src/cli/smoke/failover.ts'
import { page } from '../../../src/cli/smoke/html.ts'
import { type CheckResult, type Report, resultsOf } from '../../../src/cli/smoke/report.ts'
import { Target } from '../../../src/cli/target.ts'
import { runCommand, type Said } from '../commands.ts'
import { type SmallFleet, type SmallFleetOptions, smallFleet, token } from '../small-fleet.ts'

const start = async (t: TestContext, options?: SmallFleetOptions): Promise<SmallFleet> => {
  const fleet = await smallFleet(options)
  t.after(() => fleet.close())
  return fleet
}
const fleetTest = (...args: string[]): Promise<Said> => runCommand(command, ...args)

async function report(...args: string[]): Promise<Report & { code: number; failed: string[] }> {
  const { code, stdout, stderr } = await fleetTest(...args, '--json')
  assert.ok(stdout.startsWith('{'), stderr)
  const parsed = JSON.parse(stdout) as Report
  assert.equal(code, parsed.verdict === 'pass' ? 0 : 1)
  const failed = parsed.findings.filter(({ status }) => status === 'fail').map(({ check, text }) => `${check}: ${text}`)
  return { ...parsed, code, failed }
}

test('a healthy fleet passes, with a line for each check', async (t) => {
  const { front } = await start(t)
  const { code, stdout, stderr } = await fleetTest(front, '--token', token, '-n', '60')
  assert.equal(code, 0, stdout + stderr)
  for (const line of [
    /✓ health +\/ready: 6 responses from 3 instances/,
    /✓ operators +7 paths respond 404, requested with a forged X-Forwarded-For/,
    /✓ headers +on every response: X-Instance-Id, X-Served-By, .*X-Request-Id/,
    /✓ load +60 requests to \/health, none failed/,
    /✓ load +3 instances responded, as many as expected/,
    /✓ load +shares follow the even split: 20, 20, 20 \(χ²\(2\) = 0\.00, p = 1\.0000\)/,
    /· sticky +not by connection/,
    /✓ sessions +the session is test@example\.com on 3 instances/,
    /✓ sessions +the token is test@example\.com on 3 instances/,
    /✓ sessions +rejected with 401: a tampered cookie, a tampered token, a token with `alg: none`/,
    /✓ sessions +after the logout every instance rejects the session/,
    /small-1 +20 +20 /,
    /✓ \d+ checks passed, 0 failed\n$/,
  ]) {
    assert.match(stdout, line)
  }
  assert.match(stderr, /^… 60 requests to \/health\n/)
})

test('runs each part alone and writes the report as JSON and HTML', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'fleet-test-'))
  t.after(() => rm(folder, { recursive: true }))
  const { front } = await start(t)
  const checks = async (...args: string[]): Promise<string[]> => [
    ...new Set((await report(front, ...args)).findings.map(({ check }) => check)),
  ]
  assert.deepEqual(await checks('--health-only'), ['health', 'operators', 'headers'])
  assert.deepEqual(await checks('--sessions'), ['sessions'])
  const file = join(folder, 'report.html')
  const all = await report(front, '--load-distribution', '-n', '30', '--instances', '3', '--html', file)
  assert.equal(all.expectedInstances, 3)
  assert.deepEqual(
    all.distribution?.shares.map(({ requests, expected }) => [requests, expected]),
    Array(3).fill([10, 10]),
  )
  const html = await readFile(file, 'utf8')
  assert.match(html, /✓ passed/)
  assert.match(html, /<svg/)
  assert.doesNotMatch(html, /<script|src=|@import|url\(/)
})

test('the HTML report escapes the texts of instances', () => {
  const finding = { check: 'load', status: 'fail', text: '<script>alert(1)</script>', fix: '"&' } as const
  const share = { instanceId: '<img src=x onerror=alert(1)>', requests: 1, expected: 1, p50: 1, p95: 2 }
  const distribution = { requests: 1, failed: 0, p95: 2, shares: [share] }
  const html = page({
    url: 'http://x/"',
    startedAt: '',
    durationMs: 1,
    verdict: 'fail',
    findings: [finding],
    distribution,
  })
  assert.doesNotMatch(html, /<script|<img/)
  assert.match(html, /&lt;script&gt;alert\(1\)&lt;\/script&gt;/)
})

test('reports an instance that never responds, by number and by name', async (t) => {
  const { front, urls } = await start(t, { development: true, pick: (n) => n % 2 })
  const byNumber = await report(front, '--load-distribution', '-n', '40', '--instances', '3')
  assert.deepEqual(byNumber.failed, ['load: 2 of 3 instances responded'])
  const byName = await report(front, '--load-distribution', '-n', '40', '--instance', `${urls[0]}`)
  assert.match(byName.failed[0] ?? '', /2 of 3 instances responded; missing: small-3/)
  assert.match(byName.failed[1] ?? '', /the load is uneven: 20, 20, 0/)
})

test('fails with one instance when the expected number is unknown', async (t) => {
  const { front, urls } = await start(t, { pick: () => 0 })
  const { failed } = await report(front, '--load-distribution', '-n', '20')
  assert.deepEqual(failed, ['load: one instance responded, and the expected number is unknown'])
  // A front that is sticky by address hides the others: their own addresses help.
  const direct = urls.flatMap((url) => ['--instance', url])
  const { findings } = await report(front, '--sessions', ...direct)
  assert.ok(findings.some(({ text }) => text.startsWith('the session is test@example.com on 3 instances')))
})

test('load: reports uneven shares, ignored weights and too few requests', async (t) => {
  const skewed = await start(t, { pick: (n) => (n % 10 < 8 ? 0 : (n % 2) + 1) })
  assert.match((await report(skewed.front, '--load-distribution', '-n', '100')).failed.join(), /the load is uneven: 80/)

  const few = await report(skewed.front, '--load-distribution', '-n', '10')
  assert.deepEqual(few.failed, [])
  assert.ok(few.findings.some(({ status, text }) => status === 'skip' && text.startsWith('too few requests')))

  const weights = [200, 100, 100]
  const honoured = await start(t, { weights, pick: (n) => [0, 1, 0, 2][n % 4] ?? 0 })
  const good = await report(honoured.front, '--load-distribution', '-n', '80', '--token', token)
  assert.deepEqual(good.failed, [])
  assert.ok(good.findings.some(({ text }) => text.startsWith('shares follow the weights: 40, 20, 20')))

  const ignored = await start(t, { weights })
  const bad = await report(ignored.front, '--load-distribution', '-n', '240', '--token', token)
  assert.match(bad.failed.join(), /the load is even though weights differ: 80, 80, 80/)
})

test('counts failed requests by outcome', async (t) => {
  const { front } = await start(t, {
    extend: (app) => {
      let n = 0
      app.get('/flaky', async (_request, reply) => reply.code(n++ === 0 ? 503 : 200).send({}))
    },
  })
  const { failed } = await report(front, '--load-distribution', '-n', '30', '--path', '/flaky')
  assert.match(failed.join(), /3 of 30 requests to \/flaky failed: 3 × 503/)
})

test('an application without sessions passes', async (t) => {
  const { front } = await start(t, {
    extend: (app) => {
      app.addHook('onSend', async (_request, reply) => void reply.header('x-session-shared', 'false'))
    },
  })
  const { failed, findings } = await report(front, '--health-only')
  assert.deepEqual(failed, [])
  assert.ok(findings.some(({ text }) => text.startsWith('the application has no sessions')))
})

test('fails instances with sessions in memory', async (t) => {
  const { front } = await start(t, { separate: true })
  const { failed } = await report(front, '-n', '30')
  assert.match(
    failed.join('\n'),
    /sessions: the session was rejected by small-\d(, small-\d)?: \d+ of \d+ \(\d+ × 401\)/,
  )
  assert.match(failed.join('\n'), /headers: small-\d sends `X-Stateless: false`/)
})

test('fails when a logout is not valid on every instance', async (t) => {
  const { front } = await start(t, {
    extend: (app) => {
      if (app.fleet.instance.id !== 'small-3') return
      app.addHook('onRequest', async (request, reply) => {
        const cookie = request.headers.cookie ?? ''
        if (request.url === '/api/v1/me' && /^sid=session-0-0123456789$/.test(cookie)) {
          return reply.send({ user: { email: 'test@example.com' } })
        }
      })
    },
  })
  const { failed } = await report(front, '--sessions')
  assert.match(failed.join(), /after the logout 1 request of 3 were accepted/)
})

test('without a login, skips the sessions or fails with --sessions', async (t) => {
  const { front } = await start(t)
  const args = ['-n', '30', '--login-path', '/nothing/here']
  const all = await report(front, ...args)
  assert.deepEqual(all.failed, [])
  assert.ok(all.findings.some(({ check, status }) => check === 'sessions' && status === 'skip'))
  assert.equal((await report(front, '--sessions', ...args)).code, 1)
  assert.match(
    (await report(front, '--sessions', '--password', 'x')).failed.join(),
    /login: 1 × 401 as test@example\.com/,
  )
})

test('fails when the front forwards operators’ paths', async (t) => {
  const { front } = await start(t, { open: true, development: true })
  const { failed } = await report(front, '--health-only')
  assert.match(failed.join(), /open to every client, requested plainly: .*\/api\/v1\/load-balancer\/instances \(200\)/)
  const guarded = await start(t, { open: true })
  assert.deepEqual((await report(guarded.front, '--health-only')).failed, [], 'an address is not enough with a token')
})

test('fails when the front responds to health paths itself', async (t) => {
  const { front } = await start(t, {
    extend: (app) => {
      app.addHook('onSend', async (request, reply, payload) => {
        if (request.url === '/ready') reply.removeHeader('cache-control')
        return request.url === '/health' ? '{"status":"ok"}' : payload
      })
    },
  })
  const { failed } = await report(front, '--health-only')
  assert.match(failed.join('\n'), /\/health: 6 of 6 responses wrong: `status` is "ok"/)
  assert.match(failed.join('\n'), /\/ready: 6 of 6 responses wrong: Cache-Control is not no-store/)
})

test('reports stickiness by cookie and by connection', async (t) => {
  const byCookie = await start(t, {
    pick: (n, request) => Number(/route=(\d)/.exec(request.headers.cookie ?? '')?.[1] ?? n % 3),
    extend: (app) => {
      const route = Number(app.fleet.instance.id.slice(-1)) - 1
      app.addHook('onSend', async (_request, reply) => void reply.header('set-cookie', `route=${route}; Path=/`))
    },
  })
  const cookie = await report(byCookie.front, '-n', '30')
  assert.deepEqual(cookie.failed, [])
  assert.ok(cookie.findings.some(({ text }) => text.startsWith('by cookie (route)')))

  const sockets = new Map<unknown, number>()
  const byConnection = await start(t, {
    pick: (n, { socket }) => {
      if (!sockets.has(socket)) sockets.set(socket, n % 3)
      return sockets.get(socket) ?? 0
    },
  })
  const connection = await report(byConnection.front, '-n', '30', '--load-distribution')
  assert.deepEqual(
    connection.failed.filter((text) => !text.includes('uneven')),
    [],
  )
  assert.ok(connection.findings.some(({ text }) => text.startsWith('by connection')))
})

test('failover: an instance leaves and returns under load', async (t) => {
  const { front, urls, apps } = await start(t, { development: true })
  const { failed, findings } = await report(front, '--failover', '--instance', `${urls[1]}`)
  assert.deepEqual(failed, [])
  assert.match(findings.map(({ text }) => text).join(), /left rotation .* was back .* requests meanwhile, none failed/)
  assert.ok(apps.every((app) => app.fleet.state === 'serving'))
  const alone = await start(t, { instances: 1 })
  assert.match((await report(alone.front, '--failover', '--token', token)).failed.join(), /no other could take over/)
  const { code, stderr } = await fleetTest(front, '--failover')
  assert.equal(code, 2)
  assert.match(stderr, /--failover needs --instance or --token/)
})

test('failover: fails when the front ignores the drain, in spite of a pause', async (t) => {
  let pause: Promise<void> | undefined
  const { front, urls, apps } = await start(t, {
    development: true,
    pick: (n) => n % 3,
    extend: (app) => {
      app.addHook('onRequest', async ({ url }) => {
        if (url !== '/health' || apps[0]?.fleet.state !== 'draining') return
        pause ??= sleep(1_700)
        await pause
      })
    },
  })
  const context = { front: new Target(front), direct: [], sample: [], path: '/health' }
  const findings: CheckResult[] = []
  await failover(context, new Operators(new Target(`${urls[0]}`)), resultsOf('failover', findings), 2_500)
  assert.match(findings.map(({ text }) => text).join(), /small-1 still responded 2\.5 s after the drain/)
  assert.ok(apps.every((app) => app.fleet.state === 'serving'))
})

test('exits with 2 and one line when the test cannot run', async (t) => {
  const { front } = await start(t, {
    extend: (app) => {
      app.addHook('onRequest', async (request, reply) => {
        if (request.url.startsWith('/moved')) return reply.redirect('https://example.org/', 301)
      })
    },
  })
  for (const [args, message] of [
    [[front, front], /FLEET_ERR_USAGE .*expected one URL/],
    [['nonsense'], /"nonsense" is not a URL/],
    [['ftp://127.0.0.1'], /is not a URL/],
    [[front, '-n', '0'], /--requests must be a whole number from 1 to 10000, not "0"/],
    [[front, '-n', '1e9'], /--requests must be/],
    [[front, '-c', '101'], /--concurrency must be/],
    [[front, '--path', 'x'], /--path must be a path that starts with \//],
    [['http://127.0.0.1:1'], /FLEET_ERR_UNREACHABLE .*ECONNREFUSED/],
    [[`${front}/moved`], /it redirects to https:\/\/example\.org\//],
    [[front, '--health-only', '--html', '/no/such/folder/x.html'], /--html .* cannot be written \(ENOENT\)/],
  ] as [string[], RegExp][]) {
    const { code, stderr } = await fleetTest(...args)
    assert.equal(code, 2, args.join(' '))
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /\n {4}at /)
  }
})
