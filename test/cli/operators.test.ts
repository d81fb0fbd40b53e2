import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import Fastify from 'fastify'
import drain from '../../src/cli/commands/drain.ts'
import ps, { duration } from '../../src/cli/commands/ps.ts'
import undrain from '../../src/cli/commands/undrain.ts'
import type { Peer } from '../../src/instance/identity.ts'
import { runCommand } from './commands.ts'
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

test('a development instance without a token accepts local commands', async (t) => {
  const { urls, apps } = await smallFleet({ development: true }).then((fleet) => {
    t.after(() => fleet.close())
    return fleet
  })
  assert.equal((await runCommand(ps, `${urls[0]}`)).code, 0)
  assert.equal((await runCommand(drain, 'small-2', `${urls[0]}`)).code, 0)
  assert.equal(apps[1]?.fleet.state, 'draining')
})

test('formats the uptime with its two largest units', () => {
  const second = 1000
  assert.deepEqual([0, -5, 59 * second, 61 * second, 3600 * second, 90_061 * second].map(duration), [
    '0s',
    '0s',
    '59s',
    '1m 1s',
    '1h 0m',
    '1d 1h',
  ])
})
