import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { findProgram } from '../../../src/cli/up/find.ts'
import { startLoad } from '../../helpers/load.ts'
import { startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { fleetUp, listens, project } from './apps.ts'

const source = (path: string): string => JSON.stringify(fileURLToPath(new URL(`../../../src/${path}`, import.meta.url)))
/** Without the plugins that it does not need, because it starts many times. */
const app = `
import Fastify from 'fastify'
import headers from ${source('instance/headers.ts')}
import health from ${source('instance/health/index.ts')}
import lifecycle from ${source('instance/lifecycle/index.ts')}
import { version } from './lib/version.js'
const app = Fastify()
await app.register(lifecycle)
await app.register(headers)
await app.register(health)
app.get('/', (request, reply) => reply.header('x-version', version).send({ version }))
app.post('/echo', async (request) => request.body)
${listens}`
const exports = (version: number): string => `export const version = ${version}\n`

/** `fleet up --watch` under steady requests, none of which may fail. */
async function watched(t: TestContext, front: string, count: number) {
  const folder = project({ 'app.js': app, 'lib/version.js': exports(1) })
  const redis = await startRedis()
  const args = ['app.js', '--watch', '--json', '-f', front, '-n', String(count)]
  const up = await fleetUp(folder, args, { REDIS_URL: redis.url, DRAIN_DELAY: 500 })
  t.after(() => up.stop())
  const { front: served, instances } = JSON.parse((await up.waitFor(/^\{.*\}\n/m))[0])
  const requests = [
    { method: 'GET', path: '/' },
    { method: 'POST', path: '/echo', body: { a: 1 } },
  ] as const
  const load = startLoad(served.url, { requests, clients: 4, pauseMs: 10 })
  t.after(() => load.stop().catch(() => {}))
  await until(() => load.byInstance.size === count, { what: 'responses of all' })
  const events = (pattern: RegExp): number => up.stderr.match(new RegExp(pattern, 'g'))?.length ?? 0
  return {
    up,
    events,
    save: (text: string): void => writeFileSync(join(folder, 'lib/version.js'), text),
    /** The versions that respond. */
    versions: async (): Promise<string> => {
      const responses = await Promise.all(Array.from({ length: 8 }, () => fetch(served.url)))
      return [...new Set(responses.map(({ headers }) => headers.get('x-version')))].sort().join()
    },
    async end(): Promise<void> {
      await load.stop()
      assert.deepEqual(load.failures, [])
      for (const { url } of instances) {
        assert.equal((await fetch(`${url}/ready`)).status, 200, 'the addresses are the same')
      }
      await up.kill('SIGTERM')
      assert.deepEqual(up.ended, { code: 0, signal: null }, up.stderr)
    },
  }
}

describe('fleet up --watch', { concurrency: true }, () => {
  it('replaces the instances without losing a request, and keeps them if the new build does not start', async (t) => {
    const { up, save, events, versions, end } = await watched(t, findProgram(['nginx']) ? 'nginx' : 'node', 2)
    save(exports(2))
    await up.waitFor(/version\.js changed; reloading[\s\S]*it replaces/)
    // During the reload.
    save(exports(3))
    await up.waitFor(/reloaded 2 instances/)
    assert.equal(await versions(), '3')
    assert.equal(events(/changed; reloading/), 2)

    save('export const version = (\n')
    await up.waitFor(/not reloaded, the old instances keep serving: .*app\.js ended with 1: [\s\S]*version\.js:\d/)
    assert.equal(events(/SyntaxError/), 1)
    assert.equal(await versions(), '3')
    await end()
  })

  it('replaces a single instance, and ends the start of a build that hangs at the next change', async (t) => {
    const { up, save, events, versions, end } = await watched(t, 'node', 1)
    save('setTimeout(() => {}, 1e6)\nawait new Promise(() => {})\nexport const version = 2\n')
    await up.waitFor(/changed; reloading/)
    assert.equal(await versions(), '1')
    save(exports(3))
    await up.waitFor(/reloaded 1 instance/)
    assert.equal(await versions(), '3')
    assert.deepEqual([events(/changed; reloading/), events(/not reloaded/)], [2, 0], up.stderr)
    await end()
  })

  it('waits for a change if the first build does not start, and begins again', async (t) => {
    const folder = project({ 'app.js': app, 'lib/version.js': 'export const version = (\n' })
    const redis = await startRedis()
    const up = await fleetUp(folder, ['app.js', '--watch', '--json', '-f', 'node', '-n', '2'], { REDIS_URL: redis.url })
    t.after(() => up.stop())
    const save = (text: string): void => writeFileSync(join(folder, 'lib/version.js'), text)
    await up.waitFor(/not started, waiting for a change: .*app\.js ended with 1[\s\S]*version\.js:\d/)
    save('setTimeout(() => {}, 1e6)\nawait new Promise(() => {})\nexport const version = 2\n')
    await up.waitFor(/version\.js changed; starting 2 instances/)
    save(exports(3))
    const { front, instances } = JSON.parse((await up.waitFor(/^\{.*\}\n/m))[0])
    assert.equal(instances.length, 2)
    assert.equal((await fetch(front.url)).headers.get('x-version'), '3')
    await up.kill('SIGTERM')
    assert.deepEqual(up.ended, { code: 0, signal: null }, up.stderr)
  })

  it('ends on a signal while it waits for a change', async (t) => {
    const folder = project({ 'app.js': 'process.exit(3)\n' })
    const redis = await startRedis()
    const up = await fleetUp(folder, ['app.js', '--watch', '-f', 'node'], { REDIS_URL: redis.url })
    t.after(() => up.stop())
    await up.waitFor(/not started, waiting for a change: .*ended with 3/)
    assert.equal(up.ended, undefined)
    await up.kill('SIGTERM')
    assert.equal((await up.exit).signal, null, up.stderr)
  })

  it('rejects a path that does not exist', async () => {
    const up = await fleetUp(project({ 'app.js': app }), ['app.js', '--watch-path', 'sources'])
    assert.deepEqual(await up.exit, { code: 2, signal: null })
    assert.match(up.stderr, /--watch-path: no such file or folder: sources/)
  })
})
