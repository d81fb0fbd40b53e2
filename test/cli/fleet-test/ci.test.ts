import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import command from '../../../src/cli/commands/test.ts'
import { junit } from '../../../src/cli/smoke/junit.ts'
import { Target } from '../../../src/cli/target.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { runCommand, type Said } from '../commands.ts'
import { type SmallFleet, type SmallFleetOptions, smallFleet, token } from '../small-fleet.ts'
import { assertSchema } from './schema.ts'
import { response } from './stand-ins.ts'

const folder = temporaryFolder('fleet-test-ci')
const start = async (t: TestContext, options?: SmallFleetOptions): Promise<SmallFleet> => {
  const fleet = await smallFleet(options)
  t.after(() => fleet.close())
  return fleet
}
const fleetTest = (...args: string[]): Promise<Said> => runCommand(command, ...args)
const failing = (stdout: string): string[] =>
  (JSON.parse(stdout).findings as { status: string; check: string; text: string }[])
    .filter(({ status }) => status === 'fail')
    .map(({ check, text }) => `${check}: ${text}`)

/** Fails unless `file` is well-formed, where xmllint is installed. */
function assertXml(file: string): string {
  const { error, stderr } = spawnSync('xmllint', ['--noout', file], { encoding: 'utf8' })
  if (!error) assert.equal(stderr, '')
  return readFileSync(file, 'utf8')
}

/** A route that counts visits in a session of a cookie; `n` instances share the sessions. */
const counting =
  (shared: boolean, answer: (visits: number) => unknown = (visits) => ({ visits, at: 'x' })) =>
  (): Pick<SmallFleetOptions, 'extend'> => {
    const all = new Map<string, number>()
    return {
      extend: (app) => {
        const sessions = shared ? all : new Map<string, number>()
        app.get('/count', async (request, reply) => {
          const given = /seen=(\w+)/.exec(request.headers.cookie ?? '')?.[1]
          const id = given !== undefined && sessions.has(given) ? given : Math.random().toString(36).slice(2)
          sessions.set(id, (sessions.get(id) ?? 0) + 1)
          if (id !== given) reply.header('set-cookie', [`route=${app.fleet.instance.id}; Path=/`, `seen=${id}; Path=/`])
          return answer(sessions.get(id) ?? 0)
        })
      },
    }
  }

test('the JSON of a report and of an error have the published schema', async (t) => {
  const { front } = await start(t)
  const all = await fleetTest(front, '--token', token, '-n', '60', '--json')
  assert.equal(all.code, 0)
  await assertSchema(all.stdout)
  const error = await fleetTest('http://127.0.0.1:1', '--json')
  assert.equal(error.code, 2)
  await assertSchema(error.stdout)
  await assert.rejects(assertSchema('{"verdict":"pass"}'))
  await assert.rejects(assertSchema(all.stdout.replace('"verdict"', '"other":1,"verdict"')))
})

test('--junit writes a test case for each check, with the failures', async (t) => {
  const { front } = await start(t, { pick: (n) => n % 2 })
  const file = join(folder, 'good.xml')
  assert.equal((await fleetTest(front, '-n', '30', '--junit', file)).code, 0)
  const good = assertXml(file)
  assert.match(good, /<testsuites name="fleet test" tests="6" failures="0" errors="0" skipped="0" time="[\d.]+">/)
  const names = [...good.matchAll(/<testcase classname="fleet test" name="(\w+)">/g)].map(([, name]) => name)
  assert.deepEqual(names, ['health', 'operators', 'headers', 'load', 'sticky', 'sessions'])

  const { code } = await fleetTest(front, '--load-distribution', '--instances', '3', '-n', '30', '--junit', file)
  assert.equal(code, 1)
  assert.match(
    assertXml(file),
    /failures="1" [\s\S]*<failure type="load" message="2 of 3 instances responded">fail 2 of 3/,
  )
  const { stderr } = await fleetTest(front, '--health-only', '--junit', '/no/such/folder/x.xml')
  assert.match(stderr, /--junit .* cannot be written \(ENOENT\)/)
})

test('--junit says why a test could not run, with exit code 2', async () => {
  const file = join(folder, 'error.xml')
  assert.equal((await fleetTest('http://127.0.0.1:1', '--junit', file)).code, 2)
  const xml = assertXml(file)
  assert.match(xml, /errors="1" [\s\S]*<error type="FLEET_ERR_UNREACHABLE" message="[^"]*ECONNREFUSED[^"]*"\/>/)
})

test('the XML escapes the texts of instances', () => {
  const finding = {
    check: 'load',
    status: 'fail',
    text: `</failure><x a="1" b='2'>&\u0000\u001b]\ud800`,
    fix: '<',
  } as const
  const skipped = { check: 'sticky', status: 'skip', text: '"' } as const
  const [url, startedAt] = ['http://x/"<', '2026-01-02T03:04:05.678Z']
  const text = junit({ url, startedAt, durationMs: 1_500, verdict: 'fail', findings: [finding, skipped] })
  assert.ok(!text.includes('<x') && !/[^\P{Cc}\n]/u.test(text))
  assert.match(text, /timestamp="2026-01-02T03:04:05">/)
  assert.match(text, /skipped="1" time="1\.500"/)
  assert.match(text, /<skipped message="&#34;"\/>/)
})

test('--max-p95 and --max-error-rate set the limits of the requests under load', async (t) => {
  const { front } = await start(t, {
    extend: (app) => {
      let n = 0
      app.get('/flaky', async (_request, reply) => reply.code(n++ === 0 ? 503 : 200).send({}))
    },
  })
  const load = (...args: string[]) => fleetTest(front, '--load-distribution', '-n', '30', '--json', ...args)
  const fast = await load('--max-p95', '600000')
  assert.deepEqual([fast.code, failing(fast.stdout)], [0, []])
  assert.match(fast.stdout, /p95 of 30 responses: [\d.]+ ms, at most 600000 ms/)
  const failed = await load('--path', '/flaky', '--max-error-rate', '9.9')
  assert.deepEqual(failing(failed.stdout), ['load: 3 of 30 requests to /flaky failed: 3 × 503'])
  const one = await load('--path', '/live', '--max-p95', '600000', '--max-error-rate', '0')
  assert.equal(one.code, 0)
  for (const args of [
    ['--max-p95', '0'],
    ['--max-error-rate', '101'],
    ['--max-error-rate', '1e1'],
  ])
    assert.equal((await load(...args)).code, 2, args.join(' '))
  const { code, stderr } = await fleetTest(front, '--sessions', '--max-p95', '5')
  assert.equal(code, 2)
  assert.match(stderr, /--max-p95 belongs to --load-distribution; add it/)
})

test('--max-error-rate allows as many failures as it says, and --max-p95 fails slow responses', async (t) => {
  const { front } = await start(t, {
    instances: 2,
    extend: (app) => {
      let n = 0
      app.get('/flaky', async (_request, reply) => reply.code(n++ === 0 ? 503 : 200).send({}))
      app.get('/slow', async () => {
        const { promise, resolve } = Promise.withResolvers<object>()
        setTimeout(() => resolve({}), 5)
        return promise
      })
    },
  })
  const load = (...args: string[]) => fleetTest(front, '--load-distribution', '-n', '20', '--json', ...args)
  const allowed = await load('--path', '/flaky', '--max-error-rate', '10')
  assert.deepEqual([allowed.code, failing(allowed.stdout)], [0, []])
  assert.match(allowed.stdout, /2 of 20 requests to \/flaky failed: 2 × 503; 10 %, which --max-error-rate allows/)
  const slow = await load('--path', '/slow', '--max-p95', '1')
  assert.equal(slow.code, 1)
  assert.match(failing(slow.stdout).join(), /load: p95 of 20 responses: [\d.]+ ms, above the 1 ms of --max-p95/)
})

test('counts what passed, failed and was skipped, with a fix for each failure', async (t) => {
  const { front } = await start(t, { pick: () => 0 })
  const { code, stdout } = await fleetTest(front, '--load-distribution', '-n', '20', '--instances', '2')
  assert.equal(code, 1)
  const lines = stdout.split('\n')
  assert.equal(lines[0], front)
  assert.ok(lines.includes('✗ load      1 of 2 instances responded'), stdout)
  assert.ok(lines.includes('            → the front may be sticky by client address, or have only one target'))
  assert.ok(lines.includes('– sticky    stickiness needs at least two responding instances'))
  assert.equal(lines.at(-2), '✗ 1 check passed, 1 failed, 1 skipped')
})

test('expects the instances in rotation, without those that drain', async (t) => {
  const { front, apps } = await start(t)
  apps[2]?.fleet.drain()
  const { code, stdout } = await fleetTest(front, '--load-distribution', '--token', token, '-n', '30', '--json')
  assert.equal(code, 0, stdout)
  assert.equal(JSON.parse(stdout).expectedInstances, 2)
})

test('tests the front of fleet up by default, with the token of the environment', async (t) => {
  const { front } = await start(t)
  Object.assign(process.env, { FLEET_PORT: new URL(front).port, FLEET_ADMIN_TOKEN: token })
  t.after(() => {
    delete process.env.FLEET_PORT
    delete process.env.FLEET_ADMIN_TOKEN
  })
  const { stdout } = await fleetTest('--load-distribution', '-n', '30', '--json')
  const { url, expectedInstances, verdict } = JSON.parse(stdout)
  assert.deepEqual([url, expectedInstances, verdict], [front, 3, 'pass'])
  delete process.env.FLEET_PORT
  t.mock.method(Target.prototype, 'request', async () => response({ status: 0, error: 'ECONNREFUSED' }))
  const { code, stderr } = await fleetTest()
  assert.deepEqual([code, /http:\/\/127\.0\.0\.1:8080: ECONNREFUSED/.test(stderr)], [2, true], stderr)
})

test('sends few requests for the other parts: twelve for each instance, and no more than --requests', async (t) => {
  let count = 0
  const { front } = await start(t, { extend: (app) => void app.get('/counted', async () => ({ count: count++ })) })
  for (const [args, expected] of [
    [[], 36],
    [['--token', token, '--instances', '2'], 24],
    [['-n', '5'], 5],
  ] as const) {
    count = 0
    await fleetTest(front, '--sessions', '--path', '/counted', ...args)
    assert.equal(count, expected, args.join(' '))
  }
})

test('--session-path counts on over every instance', async (t) => {
  for (const answer of [(n: number) => ({ visits: n, other: 7 }), (n: number) => n, (n: number) => ({ seen: n })]) {
    const { front, urls } = await start(t, counting(true, answer)())
    const { code, stdout } = await fleetTest(front, '--sessions', '--session-path', '/count', '--json')
    assert.equal(code, 0, stdout)
    assert.match(stdout, /\/count starts at 1 for every client without a cookie/)
    assert.match(stdout, /the session counted to \d+ on 3 instances: small-1, small-2, small-3/)
    const direct = urls.flatMap((url) => ['--instance', url])
    assert.equal((await fleetTest(front, '--sessions', '--session-path', '/count', ...direct)).code, 0)
  }
})

test('--session-path fails when sessions are in the memory of an instance, shared by clients, or missing', async (t) => {
  const session = async (options: SmallFleetOptions, path = '/count') => {
    const { front } = await start(t, options)
    const { code, stdout } = await fleetTest(front, '--sessions', '--session-path', path, '--json')
    assert.equal(code, 1)
    return failing(stdout).join()
  }
  assert.match(
    await session(counting(false)()),
    /the session was lost in \d+ of \d+ visits: small-\d counted 1 after \d/,
  )
  let visits = 0
  const routes = (app: { get(path: string, handler: () => Promise<unknown>): unknown }): void => {
    app.get('/count', async () => ({ visits: visits++ }))
    app.get('/plain', async () => ({ hello: 'world' }))
    app.get('/same', async () => ({ visits: 1 }))
  }
  assert.match(await session({ extend: routes }), /counts 0 and then 1 without a cookie/)
  assert.match(await session({ extend: routes }, '/plain'), /\/plain returns no count/)
  assert.match(await session({ extend: routes }, '/same'), /\/same sets no cookie/)
  assert.match(await session({}, '/nothing'), /\/nothing: 1 × 404/)
})
