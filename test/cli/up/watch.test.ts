import assert from 'node:assert/strict'
import { appendFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { findProgram } from '../../../src/cli/up/find.ts'
import { watchFiles } from '../../../src/cli/up/watch.ts'
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
    assert.deepEqual([events(/changed; reloading/), events(/not reloaded/)], [2, 0])
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

describe('watched files', () => {
  it('report changes in folders, new ones included, and not those in ignored ones', async (t) => {
    const folder = project({ 'src/a.js': '', 'dist/b.js': '', '.git/c': '', 'd.js': '' })
    const changes: string[] = []
    const watch = watchFiles([folder], (file) => void changes.push(relative(folder, file)))
    t.after(() => watch.close())
    const write = async (path: string): Promise<void> => {
      const before = changes.length
      writeFileSync(join(folder, path), String(Math.random()))
      await until(() => changes.length > before, { what: `the change of ${path}` })
    }
    const programs = ['dist/b.js', '.git/c', 'app.log', 'data.sqlite-wal', 'report.html', 'junit.xml']
    for (const ignored of [...programs, 'a.js~', '.a.js.swp']) {
      writeFileSync(join(folder, ignored), 'x')
    }
    await write('src/a.js')
    await write('.env.local')
    mkdirSync(join(folder, 'src/new'))
    await until(() => changes.at(-1) === 'src/new', { what: 'the new folder' })
    await write('src/new/e.js')
    rmSync(join(folder, 'src'), { recursive: true })
    mkdirSync(join(folder, 'src'))
    await until(() => changes.at(-1) === 'src', { what: 'the replaced folder' })
    await write('src/f.js')
    assert.deepEqual([...new Set(changes)], ['src/a.js', '.env.local', 'src/new', 'src/new/e.js', 'src', 'src/f.js'])
  })

  it('can be one file, which an editor replaces, and a folder whose name is ignored', async (t) => {
    const folder = project({ 'one.js': '', 'two.js': '', 'dist/three.js': '' })
    const changes: string[] = []
    const paths = [join(folder, 'one.js'), join(folder, 'dist')]
    const watch = watchFiles(paths, (file) => void changes.push(relative(folder, file)))
    t.after(() => watch.close())
    writeFileSync(join(folder, 'two.js'), 'x')
    for (const round of [1, 2]) {
      renameSync(join(folder, 'two.js'), join(folder, 'one.js'))
      await until(() => changes.length === round, { what: 'the change' })
      writeFileSync(join(folder, 'two.js'), 'x')
    }
    writeFileSync(join(folder, 'dist/three.js'), 'x')
    await until(() => changes.length === 3, { what: 'the third change' })
    assert.deepEqual(changes, ['one.js', 'one.js', 'dist/three.js'])
  })

  it('stop at a file that changes all the time, because the reload may cause that', async (t) => {
    const folder = project({ 'a.js': '', 'out.txt': '' })
    const changes: string[] = []
    let noise = ''
    const onNoise = (message: string): void => {
      noise = message
    }
    const again = (file: string): void => {
      changes.push(relative(folder, file))
      appendFileSync(join(folder, 'out.txt'), 'reload\n')
    }
    const watch = watchFiles([folder], again, { onNoise })
    t.after(() => watch.close())
    writeFileSync(join(folder, 'a.js'), 'x')
    await until(() => /out\.txt changes all the time/.test(noise), { what: 'the end of the loop' })
    const count = changes.length
    writeFileSync(join(folder, 'a.js'), 'y')
    await until(() => changes.length > count, { what: 'a change of another file' })
    assert.equal(changes.at(-1), 'a.js')
  })
})
