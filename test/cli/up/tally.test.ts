import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Tally } from '../../../src/cli/up/tally.ts'
import { startListening } from '../../edge/listening.ts'
import { mockLimits } from '../../helpers/clock.ts'
import { until } from '../../helpers/until.ts'
import { fleetUp, listens, project } from './apps.ts'

const adminApi = fileURLToPath(new URL('../../../src/instance/admin-api.ts', import.meta.url))
const app = `
import Fastify from 'fastify'
import adminApi from ${JSON.stringify(adminApi)}
const app = Fastify()
await app.register(adminApi)
app.get('/', async () => 'ok')
app.get('/bad', async () => { throw new Error('bad') })
process.on('SIGUSR2', () => process.exit(0))
${listens}`

/** An instance that reports these totals to operators with the token `secret`, or calls back and does not respond. */
function instance(totals: object | (() => void)): Promise<number> {
  const server = createServer(({ url, headers }, response) => {
    if (typeof totals === 'function') return totals()
    const isKnown = url === '/api/v1/load-balancer/metrics' && headers.authorization === 'Bearer secret'
    response.writeHead(isKnown ? 200 : 404, { 'content-type': 'application/json', connection: 'close' })
    response.end(JSON.stringify({ instance: { totals } }))
  })
  return startListening(server)
}

describe('the summary of fleet up', () => {
  it('adds up what the instances report, and counts those that do not', async (t) => {
    mockLimits(t)
    const tally = new Tally()
    const ask = async (totals: object | (() => void), token = 'secret'): Promise<string> => {
      await tally.ask(`http://127.0.0.1:${await instance(totals)}`, token)
      return String(tally)
    }
    assert.equal(String(tally), 'no instance reported its requests; 0 restarts, 0 reloads')
    assert.match(await ask({ requests: 7, errors: 1 }, 'guess'), /^no instance reported/)
    const other = new Tally()
    await other.ask(`http://127.0.0.1:${await instance({ requests: 1, errors: 1 })}`, 'secret')
    assert.equal(String(other), 'served 1 request, 1 failed (5xx); 0 restarts, 0 reloads')
    Object.assign(tally, { restarts: 1, reloads: 2 })
    const missing = (count: string): string =>
      `served 9 requests, 2 failed (5xx), without those of ${count} that did not report; 1 restart, 2 reloads`
    assert.equal(await ask({ requests: 9, errors: 2 }), missing('1 instance'))
    assert.equal(await ask({ requests: 9 }), missing('2 instances'))
    assert.equal(await ask({ errors: 9 }), missing('3 instances'))
    let isAsked = false
    const silent = ask(() => {
      isAsked = true
    })
    await until(() => isAsked)
    t.mock.timers.tick(2_000)
    assert.equal(await silent, missing('4 instances'), 'it does not respond in two seconds')
    assert.match(await ask({ requests: 1, errors: 1 }), /^served 10 requests, 3 failed/)
  })

  it('has the requests that the instances report, and says how many did not', async (t) => {
    const args = ['app.js', '-f', 'node', '-n', '1', '--without', 'redis', '--json']
    const up = await fleetUp(project({ 'app.js': app }), args, { DRAIN_DELAY: 0 })
    t.after(() => up.stop())
    const { front, instances } = JSON.parse((await up.waitFor(/^\{.*\}\n/m))[0])
    // Not SIGKILL, which is reported to the successor in a request.
    process.kill(instances[0].pid, 'SIGUSR2')
    await up.waitFor(/is ready, process/)
    const succeeds = async (): Promise<boolean> => (await fetch(front.url)).status === 200
    await until(succeeds, { what: 'the successor' })
    for (let i = 0; i < 3; i++) assert.ok(await succeeds())
    assert.equal((await fetch(`${front.url}/bad`)).status, 500)
    await up.kill('SIGTERM')
    assert.deepEqual(up.ended, { code: 0, signal: null }, up.stderr)
    const summary =
      /^served 5 requests, 1 failed \(5xx\), without those of 1 instance that did not report; 1 restart, 0 reloads; ran \d+s$/m
    assert.match(up.stderr, summary)
  })
})
