import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
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
${listens}`

describe('the summary of fleet up', () => {
  it('has the requests that the instances report, and says how many did not', async (t) => {
    const args = ['app.js', '-f', 'node', '-n', '1', '--without', 'redis', '--json']
    const up = await fleetUp(project({ 'app.js': app }), args, { DRAIN_DELAY: 0 })
    t.after(() => up.stop())
    const { front, instances } = JSON.parse((await up.waitFor(/^\{.*\}\n/m))[0])
    process.kill(instances[0].pid, 'SIGKILL')
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
