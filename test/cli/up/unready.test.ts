import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { TargetResponse } from '../../../src/cli/target.ts'
import { whyUnready } from '../../../src/cli/up/unready.ts'
import { freePort } from '../../helpers/free-port.ts'
import { until } from '../../helpers/until.ts'
import { within } from '../../helpers/within.ts'
import { fleetUp, listens, project, withPlugin } from './apps.ts'

const plain = "import Fastify from 'fastify'\nconst app = Fastify()\n"

/** One instance with its state in memory, so that nothing but the app takes time. */
const alone = ['app.ts', '--without', 'redis', '--front', 'node', '-n', '1']

describe('fleet up tells why an app never becomes ready', { concurrency: 2 }, () => {
  for (const [what, app, says] of [
    [
      'without the plugin',
      plain + listens,
      /app\.ts did not become ready: it has no GET \/ready \(404\); register the/,
    ],
    [
      'with /ready behind a login',
      `${plain}app.addHook('onRequest', async (_, reply) => reply.code(401).send({}))\n${listens}`,
      /did not become ready: GET \/ready responds 401/,
    ],
    [
      'with /ready switched off',
      `${withPlugin.replace('register(fleet)', 'register(fleet, { health: { paths: { ready: false } } })')}${listens}`,
      /its GET \/ready is switched off or renamed/,
    ],
    ['that exits', 'console.log("done")\n', /ended with 0: it must keep running and listen on PORT, which is \d+: app/],
    ['that throws', 'throw new Error("no licence")\n', /ended with 1: .*no licence/s],
  ] as const) {
    test(`an app ${what}: fails with the reason`, async () => {
      const up = await fleetUp(project({ 'app.ts': app }), alone)
      assert.deepEqual(await up.exit, { code: 1, signal: null })
      assert.match(up.stderr, /FLEET_ERR_SERVICE_FAILED/)
      assert.match(up.stderr, says)
    })
  }

  for (const [what, app, says] of [
    [
      'listens on a fixed port',
      `${plain}await app.listen({ port: 0 })\nconsole.log('port', app.server.address().port)\n`,
      /is not ready: it listens on port \d+; listen on PORT, which is \d+: app\.listen/,
    ],
    [
      'listens on another address',
      `${plain}await app.listen({ port: Number(process.env.PORT), host: '127.0.0.2' })\n`,
      /is not ready: it listens on port \d+, but not on 127\.0\.0\.1/,
    ],
    [
      'never responds',
      `${plain}app.addHook('onRequest', () => new Promise(() => {}))\n${listens}`,
      /is not ready: it accepts connections on port \d+, but GET \/ready gets no response/,
    ],
    [
      'has a failing check',
      `${withPlugin}app.health.add('licence', () => false, { critical: true })\n${listens}`,
      /is not ready: GET \/ready responds 503: .*licence/,
    ],
  ] as const) {
    test(`an app that ${what}: says so while it waits`, {
      skip: process.platform !== 'linux' && 'needs /proc',
    }, async () => {
      const tells = "process.getBuiltinModule('node:fs').writeFileSync('listens', String(process.pid))\n"
      const folder = project({ 'app.ts': app + tells })
      const up = await fleetUp(folder, alone)
      // Until then it is still starting, which takes long on a busy machine.
      const pid = await until(() => Number(readFileSync(join(folder, 'listens'), 'utf8')), {
        what: 'the app to listen',
      })
      await within(3_000, 'the reason', () => says.test(up.stderr), [up.pid, pid])
      await up.kill('SIGTERM')
      assert.match(up.stderr, /stopped before it was ready/)
    })
  }

  test('an app that does not listen: is still starting at first, and is told how after 15 s', async () => {
    const up = await fleetUp(project({ 'app.ts': 'setInterval(() => {}, 1000)\n' }), alone)
    await up.waitFor(/starting 1 × app\.ts/)
    await within(3_000, 'the state', () => /app-1-\w+ is still starting\n/.test(up.stderr), [up.pid])
    assert.doesNotMatch(up.stderr, /is not ready/)
    await within(16_000, 'the reason', () => /is not ready: it does not listen yet; listen on PORT/.test(up.stderr), [
      up.pid,
    ])
    assert.equal(up.stderr.match(/is still starting/g)?.length, 1)
    await up.kill('SIGTERM')
    assert.match(up.stderr, /stopped before it was ready/)
  })

  test('an app that begins to listen right after the request: is still starting', {
    skip: process.platform !== 'linux' && 'needs /proc',
  }, async (t) => {
    const refused = { status: 0, error: 'ECONNREFUSED' } as TargetResponse
    for (const host of ['127.0.0.1', '0.0.0.0', '::', '::ffff:127.0.0.1', '127.0.0.2', '::1']) {
      const server = createServer().listen(0, host)
      await once(server, 'listening')
      t.after(() => server.close())
      const { starting, text } = whyUnready(process.pid, (server.address() as AddressInfo).port, refused)
      const isReachable = host !== '127.0.0.2' && host !== '::1'
      assert.equal(starting, isReachable || undefined, host)
      assert.equal(/but not on 127\.0\.0\.1/.test(text), !isReachable, host)
    }
  })

  test('several instances that listen on one fixed port fail with the fix', async () => {
    const app = `${plain}app.get('/ready', async () => ({}))\nawait app.listen({ port: Number(process.env.FIXED) })\n`
    const args = ['app.ts', '--front', 'node', '-n', '2']
    const up = await fleetUp(project({ 'app.ts': app }), args, { FIXED: await freePort() })
    assert.equal((await up.exit).code, 1)
    assert.match(up.stderr, /ended with 1: every instance needs a port of its own; listen on PORT/)
  })
})
