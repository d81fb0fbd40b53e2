import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import up from '../../../src/cli/commands/up.ts'
import { LocalFleet } from '../../../src/cli/up/local-fleet.ts'
import { until } from '../../helpers/until.ts'
import { runCommand } from '../commands.ts'
import { fleetUp, project } from './apps.ts'

/** The smallest instance and the smallest program beside it. */
const app = `
import { createServer } from 'node:http'
createServer((request, response) => response.writeHead(200, { connection: 'close' }).end())
  .listen(process.env.PORT, process.env.HOST)
process.on('SIGTERM', () => process.exit(0))
`

describe('the text of fleet up', () => {
  it('names the addresses, the state, the token and what to try, and then how it ended', async (t) => {
    const token = 'a token of at least thirty-two bytes'
    const folder = project({ 'app.js': app, 'jobs.js': 'setInterval(() => {}, 1e6)' })
    const args = ['app.js', '-n', '2', '-f', 'node', '--without', 'redis', '--with', 'jobs=jobs.js']
    const up = await fleetUp(folder, args, { FLEET_ADMIN_TOKEN: token, DRAIN_DELAY: 0, FLEET_ADMIN_PORT: undefined })
    t.after(() => up.stop())
    await up.waitFor(/Ctrl-C drains everything/)
    const shown = up.stdout
    const [, url, front] = /^ *front +fleet balance +(http:\/\/127\.0\.0\.1:\d+) +(\d+)$/m.exec(shown) ?? []
    assert.ok(url && front, shown)
    const [, instance] = /^ *instance +app-1-[\da-f]{4} +(http:\/\/127\.0\.0\.1:\d+) +\d+$/m.exec(shown) ?? []
    assert.ok(instance, shown)
    for (const line of [
      /^ *process +jobs +\d+$/m,
      /^ *sessions, tokens, cache, limits, registry +memory of the only instance$/m,
      /^ *database +nothing: the app does not seem to use PostgreSQL \(see --with\)$/m,
      /^note without Redis, one instance runs with its state in memory$/m,
      new RegExp(`^dashboard +${instance}/fleet#code=\\S{20,}$`, 'm'),
      /this link signs in once within 5 minutes/,
      new RegExp(`^admin token +${token}$`, 'm'),
      new RegExp(`^try +curl -i ${url}/$`, 'm'),
      /^logs +`fleet logs` in another terminal/m,
    ])
      assert.match(shown, line)
    await up.kill('SIGTERM')
    assert.deepEqual(up.ended, { code: 0, signal: null })
    assert.match(up.stderr, /no instance reported its requests; 0 restarts, 0 reloads; ran \d/)
  })
})

describe('the end of fleet up', () => {
  it('drains at the first signal, ends at once at a second one, and exits with 1 unless all was clean', async (t) => {
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
    for (const [isClean, expected] of [
      [true, 0],
      [false, 1],
    ] as const) {
      const before = signals.map((signal) => process.listeners(signal))
      t.mock.method(LocalFleet.prototype, 'missing', async () => [])
      t.mock.method(LocalFleet.prototype, 'start', () => new Promise(() => {}))
      const drained = Promise.withResolvers<boolean>()
      const drain = t.mock.method(LocalFleet.prototype, 'drain', () => drained.promise)
      const exit = t.mock.method(process, 'exit', (() => {}) as never)
      t.mock.timers.enable({ apis: ['setTimeout'] })
      const said = runCommand(up, import.meta.filename, '--front', 'node')
      await until(() => process.listenerCount('SIGHUP') > (before[2]?.length ?? 0))
      await new Promise(setImmediate)
      await new Promise(setImmediate)
      assert.equal(drain.mock.callCount(), 0)
      process.emit('SIGHUP', 'SIGHUP')
      await until(() => drain.mock.callCount() === 1, { what: 'the drain' })
      process.emit('SIGHUP', 'SIGHUP')
      assert.equal(exit.mock.callCount(), 0, 'it was delivered twice')
      t.mock.timers.tick(300)
      await new Promise(setImmediate)
      await new Promise(setImmediate)
      process.emit('SIGHUP', 'SIGHUP')
      assert.deepEqual(exit.mock.calls[0]?.arguments, [1])
      drained.resolve(isClean)
      assert.equal((await said).code, expected)
      t.mock.restoreAll()
      t.mock.timers.reset()
      for (const [i, signal] of signals.entries())
        for (const listener of process.listeners(signal))
          if (!before[i]?.includes(listener)) process.off(signal, listener)
    }
  })
})
