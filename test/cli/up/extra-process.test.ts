import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { ExtraProcess, type ExtraProcessOptions, extraPrograms } from '../../../src/cli/up/extra-process.ts'
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
process.on('SIGTERM', () => console.log('stopped') || process.exit(0))
console.log('version ${version}', await redis.ping(), process.env.INSTANCE_ID, process.env.FLEET_ADMIN_PORT)
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

  /** A process of a program with this text. */
  function extra(t: TestContext, text: string, more: Partial<ExtraProcessOptions> = {}) {
    const file = join(project({ 'worker.cjs': text }), 'worker.cjs')
    const events: string[] = []
    const options = { env: {}, shutdownTimeoutMs: 10_000, watched: false, ...more }
    const process = new ExtraProcess({ name: 'jobs', file }, { ...options, onEvent: (line) => void events.push(line) })
    t.after(() => process.stop())
    return { process, events }
  }
  const ended = (events: readonly string[]) => until(() => events.length > 0, { what: 'its end' })

  it('report their end with the last output, unless that was shown or they succeeded', async (t) => {
    const fails = 'console.log("one"); process.exitCode = 3'
    for (const [text, more, expected] of [
      [fails, {}, 'jobs ended with 3; it is not started again\none'],
      [fails, { onOutput: () => {} }, 'jobs ended with 3; it is not started again'],
      ['console.log("one")', { watched: true }, 'jobs ended with 0; it is not started again until a file changes'],
      ['process.kill(process.pid, "SIGKILL")', {}, 'jobs ended with SIGKILL; it is not started again\nno output'],
    ] as const) {
      const { process, events } = extra(t, text, more)
      process.start()
      await ended(events)
      assert.deepEqual([events, process.pid], [[expected], undefined])
      assert.equal(await process.stop(), true, 'it was not killed here')
    }
  })

  it('are killed two seconds after their time, which counts as unclean', async (t) => {
    let output = ''
    const onOutput = (_name: string, text: string): void => {
      output += text
    }
    const text = `process.on('SIGTERM', () => {}); setInterval(() => {}, 1e6); console.log('ready')`
    const { process, events } = extra(t, text, { shutdownTimeoutMs: -1_900, onOutput })
    process.start()
    await until(() => output === 'ready\n')
    const { pid } = process
    assert.equal(await process.stop(), false)
    assert.deepEqual([isAlive(pid as number), events], [false, []])
  })

  it('have two seconds more than their time', async (t) => {
    let output = ''
    const onOutput = (_name: string, text: string): void => {
      output += text
    }
    const slow = `process.on('SIGTERM', () => console.log('asked')); process.on('SIGHUP', () => process.exit())`
    const text = `${slow}; setInterval(() => {}, 1e6); console.log('ready')`
    const { process: worker } = extra(t, text, { shutdownTimeoutMs: 0, onOutput })
    worker.start()
    await until(() => output === 'ready\n')
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const stopped = worker.stop()
    await until(() => output === 'ready\nasked\n')
    t.mock.timers.tick(1_999)
    process.kill(worker.pid as number, 'SIGHUP')
    assert.equal(await stopped, true)
  })

  it('are started again once more after a change during a restart, and not before the start or after the end', async (t) => {
    const { process, events } = extra(t, 'setInterval(() => {}, 1e6)')
    process.restart()
    assert.deepEqual([process.pid], [undefined])
    process.start()
    const first = process.pid
    for (let i = 0; i < 3; i++) process.restart()
    await until(() => events.length === 2, { what: 'both restarts' })
    assert.equal(isAlive(first as number), false)
    assert.deepEqual(events[1], `jobs is started again, process ${process.pid}`)
    assert.equal(await process.stop(), true)
    process.restart()
    assert.deepEqual([events.length, process.pid], [2, undefined])
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
