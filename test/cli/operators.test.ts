import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import drain from '../../src/cli/commands/drain.ts'
import ps, { duration } from '../../src/cli/commands/ps.ts'
import undrain from '../../src/cli/commands/undrain.ts'
import { Operators } from '../../src/cli/operators.ts'
import { Target } from '../../src/cli/target.ts'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import type { Peer } from '../../src/instance/identity.ts'
import { runCommand } from './commands.ts'
import { response } from './fleet-test/stand-ins.ts'
import { type SmallFleet, smallFleet, token } from './small-fleet.ts'

const start = async (t: TestContext): Promise<SmallFleet> => {
  const fleet = await smallFleet()
  t.after(() => fleet.close())
  return fleet
}

test('ps lists all instances from any of them', async (t) => {
  const { urls, front } = await start(t)
  for (const args of [
    [`${urls[2]}`, '--token', token],
    [front, '--token', token],
  ]) {
    const { code, stdout } = await runCommand(ps, ...args)
    assert.equal(code, 0)
    const lines = stdout.trimEnd().split('\n')
    assert.match(lines[0] ?? '', /^INSTANCE +STATE +ADDRESS +PID +VERSION +COLOR +POOL +WEIGHT +RPS +P95 MS/)
    assert.equal(lines.length, 4)
    for (const i of [1, 2, 3])
      assert.match(lines[i] ?? '', new RegExp(`^small-${i} +serving +\\S+:\\d+ +${process.pid} `))
  }
  const { stdout } = await runCommand(ps, `${urls[0]}`, '--token', token, '--json')
  assert.deepEqual(
    (JSON.parse(stdout) as Peer[]).map(({ id }) => id),
    ['small-1', 'small-2', 'small-3'],
  )
})

test('drain and undrain work through any instance and wait for the new state', async (t) => {
  const { urls, apps } = await start(t)
  const drained = await runCommand(drain, 'small-2', `${urls[0]}`, '--token', token)
  assert.deepEqual(drained, { code: 0, stdout: 'small-2 is draining\n', stderr: '' })
  assert.equal(apps[1]?.fleet.state, 'draining')
  const back = await runCommand(undrain, 'small-2', `${urls[1]}`, '--token', token, '--json')
  assert.deepEqual(back, { code: 0, stdout: '{"instanceId":"small-2","state":"serving"}\n', stderr: '' })
  assert.equal(apps[1]?.fleet.state, 'serving')
})

test('rejects callers without the token, unknown instances and unreachable targets', async (t) => {
  const { urls, front } = await start(t)
  const other = Fastify()
  t.after(() => other.close())
  other.get('/api/v1/load-balancer/instances', async () => ({ hello: 'world' }))
  const outsider = await other.listen({ port: 0, host: '127.0.0.1' })
  for (const [verb, args, code, message] of [
    [ps, [`${urls[0]}`], 2, /FLEET_ERR_NOT_OPERATOR .* responds 404 .*FLEET_ADMIN_TOKEN/],
    [ps, [front], 2, /FLEET_ERR_NOT_OPERATOR .* responds 404 .*FLEET_ADMIN_TOKEN/],
    [ps, [front, '--token', 'wrong'], 2, /FLEET_ERR_NOT_OPERATOR/],
    [ps, ['http://127.0.0.1:1'], 2, /FLEET_ERR_UNREACHABLE .*ECONNREFUSED/],
    [ps, [outsider], 2, /FLEET_ERR_UNREACHABLE .*not an instance of a fleet/],
    [ps, [front, front], 2, /expected one URL, got 2/],
    [drain, [], 2, /missing INSTANCE/],
    [
      drain,
      ['small-9', `${urls[0]}`, '--token', token],
      1,
      /FLEET_ERR_INSTANCE_UNKNOWN .*"small-9"; instances: small-1, small-2, small-3/,
    ],
  ] as const) {
    const said = await runCommand(verb, ...args)
    assert.equal(said.code, code, said.stderr)
    assert.match(said.stderr, message)
  }
})

test('tells how to trust the certificate of an authority of your own', async (t) => {
  const folder = temporaryFolder('tls')
  const script = fileURLToPath(new URL('../../scripts/make-dev-certs', import.meta.url))
  execFileSync(script, [folder, '127.0.0.1'], { stdio: 'pipe' })
  const [cert, key] = ['fullchain.pem', 'key.pem'].map((name) => readFileSync(join(folder, name)))
  const server = createServer({ cert, key }, (_, response) => response.end('{"instances":[]}'))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.after(() => server.close())
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { code, stderr } = await runCommand(ps, url)
  assert.equal(code, 2)
  assert.match(stderr, /FLEET_ERR_UNREACHABLE .*CERT.*; set NODE_EXTRA_CA_CERTS .*--insecure/)
  assert.equal((await runCommand(ps, url, '--insecure')).code, 0)
})

test('a development instance without a token accepts local commands', async (t) => {
  const { urls, apps } = await smallFleet({ development: true }).then((fleet) => {
    t.after(() => fleet.close())
    return fleet
  })
  assert.equal((await runCommand(ps, `${urls[0]}`)).code, 0)
  assert.equal((await runCommand(drain, 'small-2', `${urls[0]}`)).code, 0)
  assert.equal(apps[1]?.fleet.state, 'draining')
})

test('drain reports the state that is shown when the time is over, and exits with 1', async (t) => {
  const { urls, apps } = await start(t)
  const now = performance.now.bind(performance)
  t.mock.method(performance, 'now', () => now() * 100)
  for (const app of apps) Object.assign(app.fleet, { command: async () => undefined, drain: () => undefined })
  const late = await runCommand(drain, 'small-2', `${urls[0]}`, '--token', token)
  const stderr = 'error small-2 is serving, 10 s after the command drain\n'
  assert.deepEqual(late, { code: 1, stdout: '', stderr })
  for (const app of apps) Object.assign(app.fleet, { peers: () => [app.fleet.self()] })
  const gone = Object.assign(apps[0]?.fleet ?? {}, {
    drain: () => Object.assign(apps[0]?.fleet ?? {}, { peers: () => [] }),
  })
  assert.ok(gone)
  const left = await runCommand(drain, 'small-1', `${urls[0]}`, '--token', token, '--json')
  assert.deepEqual([left.code, left.stdout], [1, '{"instanceId":"small-1","state":"gone"}\n'])
})

test('the first instance on this machine is the default, on its port for operators', async (t) => {
  const { urls } = await start(t)
  const port = new URL(`${urls[0]}`).port
  for (const name of ['FLEET_ADMIN_PORT', 'FLEET_BASE_PORT']) {
    process.env[name] = port
    process.env.FLEET_ADMIN_TOKEN = token
    t.after(() => {
      delete process.env[name]
      delete process.env.FLEET_ADMIN_TOKEN
    })
    assert.equal((await runCommand(ps)).code, 0, name)
    assert.equal((await runCommand(ps, '--token', 'another')).code, 2, 'the option takes precedence')
    delete process.env[name]
  }
})

test('asks the port for operators, else the first port of fleet up, which is 4001 by default', async (t) => {
  const asked = new Set<string>()
  t.mock.method(Target.prototype, 'request', async function request(this: Target) {
    asked.add(this.url)
    return response({ status: 500 })
  })
  const { FLEET_ADMIN_PORT, FLEET_BASE_PORT, ...others } = process.env
  const before = process.env
  t.after(() => {
    process.env = before
  })
  for (const ports of [{ FLEET_ADMIN_PORT: '9001', FLEET_BASE_PORT: '4100' }, { FLEET_ADMIN_PORT: '0' }, {}]) {
    process.env = { ...others, ...ports }
    assert.equal((await runCommand(ps)).code, 2)
  }
  assert.deepEqual([...asked], ['http://127.0.0.1:9001', 'http://127.0.0.1:4001'])
})

test('sends a command as a proven change, for exactly the named instance', async (t) => {
  const asked: unknown[] = []
  const app = Fastify()
  t.after(() => app.close())
  const peers = [{ id: 'a/b?c', state: 'draining' }]
  app.get('/api/v1/load-balancer/instances', async () => peers)
  app.post('/api/v1/load-balancer/:command', async ({ url, headers, body }) => {
    asked.push([url, headers['content-type'], headers.authorization, body])
    return {}
  })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  assert.equal((await runCommand(drain, 'a/b?c', url, '--token', 'secret')).code, 0)
  const path = '/api/v1/load-balancer/drain?instance=a%2Fb%3Fc'
  assert.deepEqual(asked, [[path, 'application/json', 'Bearer secret', {}]])
})

test('an instance that fails to respond is unreachable, not unauthorised', async (t) => {
  const app = Fastify()
  t.after(() => app.close())
  let status = 0
  app.get('/api/v1/load-balancer/instances', async (_request, reply) => reply.code(status).send([]))
  app.get('/api/v1/load-balancer/health', async () => ({}))
  let configuration: unknown
  app.get('/api/v1/load-balancer/config', async () => ({ effective: configuration }))
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  for (const [code, message] of [
    ...[300, 500, 503].map((code) => [code, /FLEET_ERR_UNREACHABLE .*instances responded \d+/] as const),
    ...[401, 403, 404].map((code) => [code, /FLEET_ERR_NOT_OPERATOR/] as const),
  ]) {
    status = code
    const said = await runCommand(ps, url)
    assert.equal(said.code, 2)
    assert.match(said.stderr, message, String(code))
  }
  status = 299
  assert.equal((await runCommand(ps, url)).code, 0)
  for (const effective of [undefined, null, 'text']) {
    configuration = effective
    await assert.rejects(new Operators(new Target(url)).effective(), {
      code: 'FLEET_ERR_UNREACHABLE',
      message: /does not report its effective configuration$/,
    })
  }
})

test('formats the uptime with its two largest units', () => {
  const second = 1000
  const times = [0, -5, 999, 59, 60, 61, 3_599, 3_600, 86_399, 86_400, 90_061, 8_640_000]
  assert.deepEqual(
    times.map((time, i) => duration(i < 3 ? time : time * second)),
    [...['0s', '0s', '0s', '59s', '1m 0s', '1m 1s', '59m 59s', '1h 0m', '23h 59m', '1d 0h', '1d 1h', '100d 0h']],
  )
})
