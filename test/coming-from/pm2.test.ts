import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Pm2 } from '../fleet/pm2.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { filesOf, Project, secret, tableOf } from './pages.ts'

const cli = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

test('pm2: a reload cuts requests before the move, the move itself is a reload, and a reload cuts none after it', async () => {
  const project = await Project.with([])
  const { url: redisUrl } = await startRedis()
  // On a busy machine, the second process is replaced more than 5 s after the first.
  const app = filesOf('pm2.md')['before/app.js'] ?? ''
  const folder = project.write('pm2.md', { 'before/app.js': app.replace('sleep(5000', 'sleep(60_000') })
  const [before, after] = [`${folder}/before`, `${folder}/after`]
  writeFileSync(`${after}/package.json`, '{"name":"shop","type":"module","dependencies":{"fastify-fleet":"*"}}')
  const eject = spawnSync(process.execPath, [cli, 'eject', 'pm2', '--name', 'shop'], { cwd: after, encoding: 'utf8' })
  assert.equal(eject.status, 0, eject.stderr)

  const port = await freePort()
  const env = { REDIS_URL: redisUrl, SESSION_SECRET: secret, JWT_SECRET: secret, NODE_ENV: undefined }
  const pm2 = new Pm2({ ...env, PORT: `${port}`, NODE_OPTIONS: project.hooks })
  await pm2.up()
  const command = (verb: string) => pm2.command([verb, 'ecosystem.config.cjs'], before)
  // A connection that is passed to a process that ends stays open without a response.
  const get = async (path: string, timeoutMs: number): Promise<number> => {
    const options = { headers: { connection: 'close' }, signal: AbortSignal.timeout(timeoutMs) }
    const response = await fetch(`http://127.0.0.1:${port}${path}`, options)
    assert.equal(response.status, 200)
    return (await response.json()).pid
  }
  /** The two processes that serve, once these are other ones than before. */
  const processes = (before: ReadonlySet<number> = new Set()): Promise<Set<number>> =>
    until(
      async () => {
        const results = await Promise.allSettled(Array.from({ length: 8 }, () => get('/', 2000)))
        const found = new Set(results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])))
        return found.size === 2 && ![...found].some((pid) => before.has(pid)) ? found : undefined
      },
      { what: 'two processes' },
    )

  /** Reloads with requests in flight on both processes, and returns what became of them. */
  async function reload(): Promise<string> {
    const inFlight = Promise.allSettled(Array.from({ length: 4 }, () => get('/slow', 90_000)))
    const old = await processes() // The requests above were accepted before these.
    assert.equal((await command('reload').exit).code, 0)
    const statuses = (await inFlight).map(({ status }) => (status === 'fulfilled' ? '200' : 'cut'))
    await processes(old)
    return [...new Set(statuses)].join()
  }

  command('start')
  await processes()
  const outcomes = [await reload()]
  cpSync(after, before, { recursive: true })
  assert.equal(await reload(), 'cut')
  assert.ok((await fetch(`http://127.0.0.1:${port}/ready`)).ok)
  outcomes.push(await reload())
  await pm2.stop()
  const [row] = tableOf('pm2.md', 'What differs')
  assert.deepEqual(['the requests in flight', ...outcomes], row)
})
