import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { extraPrograms } from '../../../src/cli/up/extra-process.ts'
import { isAlive } from '../../helpers/alive.ts'
import { until } from '../../helpers/until.ts'
import { fleetUp, project } from './apps.ts'

/** The smallest instance. */
const app = `
import { createServer } from 'node:http'
const server = createServer((request, response) => response.writeHead(200, { connection: 'close' }).end())
server.listen(process.env.PORT, process.env.HOST)
process.on('SIGTERM', () => process.exit(0))
`
const worker = (version: number): string => `
import { Redis } from 'ioredis'
const redis = new Redis(process.env.REDIS_URL)
console.log('version ${version}', await redis.ping(), process.env.INSTANCE_ID, process.env.FLEET_ADMIN_PORT)
process.on('SIGTERM', () => console.log('stopped') || process.exit(0))
`

describe('fleet up --with NAME=FILE', () => {
  it('runs programs beside the instances with their Redis, restarts them on change, and stops them', async (t) => {
    const files = { 'app.js': app, 'worker.js': worker(1), 'broken.js': 'throw new Error("no queue")' }
    const folder = project(files)
    const args = ['app.js', '-n', '1', '-f', 'node', '--watch', '--logs', '--json']
    const more = ['--with', 'worker=./worker.js', '--with', 'broken=broken.js']
    const up = await fleetUp(folder, [...args, ...more], { FLEET_ADMIN_PORT: 0, DRAIN_DELAY: 200 })
    t.after(() => up.stop())
    const { processes, front } = JSON.parse((await up.waitFor(/^\{.*\}\n/m))[0])
    await up.waitFor(/^worker \| version 1 PONG undefined undefined$/m)
    await up.waitFor(/^broken \| Error: no queue$/m)
    await up.waitFor(/broken ended with 1; it is not started again until a file changes$/m)
    assert.equal((await fetch(front.url)).status, 200, 'the fleet goes on')
    const [{ name, pid }] = processes
    assert.equal(name, 'worker')
    assert.ok(isAlive(pid))

    writeFileSync(join(folder, 'worker.js'), worker(2))
    await up.waitFor(/^worker \| version 2 PONG/m)
    assert.equal(isAlive(pid), false)
    const again = Number((await up.waitFor(/worker is started again, process (\d+)/))[1])
    await until(() => up.stderr.match(/broken ended with 1/g)?.length === 2, { what: 'the second failure' })
    await up.waitFor(/reloaded 1 instance/)
    await up.kill('SIGTERM')
    assert.deepEqual(up.ended, { code: 0, signal: null }, up.stderr)
    assert.equal(up.stderr.match(/^worker \| stopped$/gm)?.length, 2)
    assert.equal(isAlive(again), false)
  })

  it('are separated from the names of servers, and must have a name and a file', () => {
    const folder = project({ 'worker.js': '' })
    const file = join(folder, 'worker.js')
    const { programs, servers } = extraPrograms(['postgres', `jobs=${file}`])
    assert.deepEqual([programs.map(({ name }) => name), servers], [['jobs'], ['postgres']])
    for (const [given, message] of [
      [['=worker.js'], /--with =worker\.js: NAME must be a letter/],
      [['a b=worker.js'], /NAME must be a letter/],
      [['jobs=none.js'], /--with jobs=none\.js: no such file: "none\.js"; write e\.g\. --with worker=\.\/worker\.js/],
      [['jobs='], /no such file: ""/],
      [[`jobs=${file}`, `jobs=${file}`], /there is another process jobs/],
    ] as const) {
      assert.throws(() => extraPrograms(given), { code: 'FLEET_ERR_USAGE', message })
    }
  })
})
