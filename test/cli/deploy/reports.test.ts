import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer, Socket } from 'node:net'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { describe, it, type TestContext } from 'node:test'
import deploy from '../../../src/cli/commands/deploy.ts'
import { ask } from '../../../src/cli/deploy/haproxy-api.ts'
import { readStatus, sample } from '../../../src/cli/deploy/instance-status.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { startListening } from '../../edge/listening.ts'
import { mockLimits } from '../../helpers/clock.ts'
import { runCommand } from '../commands.ts'
import { startInstance } from './stand-ins.ts'

const token = 'a token of at least thirty-two bytes'

/** The operators' paths of all instances, on one port, with the token of the environment. */
async function operatorsOf(t: TestContext): Promise<{ port: number; events: Record<string, unknown>[] }> {
  mockLimits(t)
  process.env.FLEET_ADMIN_TOKEN = token
  t.after(() => void delete process.env.FLEET_ADMIN_TOKEN)
  const events: Record<string, unknown>[] = []
  const server = createHttpServer(async (request, response) => {
    const isKnown = request.headers.authorization === `Bearer ${token}`
    if (isKnown && request.url === '/fleet/events') events.push((await json(request)) as Record<string, unknown>)
    const status = !isKnown ? 404 : request.url === '/fleet/events' ? 202 : 200
    response.writeHead(status, { 'content-type': 'application/json', connection: 'close' })
    response.end(JSON.stringify({ instance: { totals: { requests: 5, errors: 0 }, p95: 1 } }))
  })
  return { port: await startListening(server), events }
}

async function deployment(versions: readonly string[]): Promise<{ nginx: string[]; addresses: string[] }> {
  const instances = await Promise.all(versions.map((version) => startInstance({ version })))
  const addresses = instances.map(({ address }) => address)
  const file = join(temporaryFolder('deploy'), 'upstreams.conf')
  writeFileSync(file, `upstream fleet {\n${addresses.map((address) => `  server ${address};\n`).join('')}}\n`)
  const nginx = ['--front', 'nginx', '--upstreams', file, '--settle', '0', '--nginx', '/bin/true', '--version', '2']
  return { nginx: [...nginx, '--start', 'false'], addresses }
}

describe('fleet deploy reports its steps', () => {
  for (const [where, option] of [
    [
      '--dashboard, with the token of the environment',
      (port: number) => ['--dashboard', `http://127.0.0.1:${port}/fleet/`],
    ],
    [
      'the port for operators of the instances, with the token of the environment',
      (port: number) => ['--admin-port', String(port)],
    ],
    [
      '--dashboard, with the token of --token',
      (port: number) => {
        process.env.FLEET_ADMIN_TOKEN = 'another token of at least thirty-two bytes'
        return ['--dashboard', `http://127.0.0.1:${port}/fleet`, '--token', token]
      },
    ],
  ] as const) {
    it(`to ${where}`, async (t) => {
      const { port, events } = await operatorsOf(t)
      const { nginx, addresses } = await deployment(['1', '1'])
      const targets = addresses.flatMap((address) => ['--target', address])
      assert.equal((await runCommand(deploy, 'rolling', ...nginx, ...targets, ...option(port))).code, 1)
      assert.deepEqual(
        events.map(({ kind, version }) => [kind, version]),
        ['deploy-started', 'deploy-step', 'deploy-step', 'deploy-failed', 'rolled-back'].map((kind) => [kind, '2']),
      )
      assert.equal(events[0]?.text, '5 steps')
    })
  }

  it('of blue-green and of pm2 to the instances that their options name', async (t) => {
    const { port, events } = await operatorsOf(t)
    const { nginx, addresses } = await deployment(['1', '1'])
    const [one = '', two = ''] = addresses
    // Stands in for Node, which checks the build before pm2 reloads it: the check fails.
    const { execPath } = process
    process.execPath = 'false'
    t.after(() => {
      process.execPath = execPath
    })
    for (const args of [
      ['blue-green', ...nginx, '--blue', one, '--green', two, '--to', 'green'],
      ['rolling', 'app.js', '--front', 'pm2', '--version', '2', '--url', `http://${one}`],
    ]) {
      events.length = 0
      const { code, stderr } = await runCommand(deploy, ...args, '--admin-port', String(port))
      assert.equal(code, 1, stderr)
      assert.deepEqual(
        events.map(({ kind }) => kind),
        ['deploy-started', 'deploy-step', 'deploy-failed', 'rolled-back'],
        args[0],
      )
    }
  })

  it('and compares a canary by the figures of the same port', async (t) => {
    const { port } = await operatorsOf(t)
    const { nginx, addresses } = await deployment(['1', '1', '2'])
    const [one = '', two = '', three = ''] = addresses
    const where = ['--target', one, '--target', two, '--canary', three, '--admin-port', String(port)]
    const { stderr } = await runCommand(deploy, 'canary', ...nginx, ...where, '--window', '0', '--min-requests', '7')
    assert.match(stderr, /the canary is worse: it received 0 requests; a comparison needs 7/)
  })
})

it('an instance that does not respond within two seconds is not ready, and has no counters', {
  timeout: 30_000,
}, async () => {
  const url = `http://127.0.0.1:${await startListening(createServer((socket) => socket.on('error', () => {})))}`
  const counters = assert.rejects(sample(url, 'secret'), { code: 'FLEET_ERR_UNREACHABLE', message: /timeout/i })
  const { ready, summary } = await readStatus(url)
  assert.equal(ready, false)
  assert.match(summary, /timeout/i)
  await counters
})

it('HAProxy has ten seconds to respond', async (t) => {
  const socket = join(temporaryFolder('silent'), 'sock')
  const silent = createServer({ allowHalfOpen: true }, (connection) => connection.on('error', () => {}).resume())
  await startListening(silent, socket)
  const { setTimeout } = Socket.prototype
  // A thousand times as fast.
  t.mock.method(Socket.prototype, 'setTimeout', function (this: Socket, ms: number, ...more: []) {
    return setTimeout.call(this, ms / 1_000, ...more)
  })
  await assert.rejects(ask(socket, 'show info'), {
    code: 'FLEET_ERR_UNREACHABLE',
    message: /runtime API at .*: no response within 10 s$/,
  })
})
