import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
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
