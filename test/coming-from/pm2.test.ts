import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Pm2 } from '../fleet/pm2.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { Project, secret, tableOf } from './pages.ts'

const cli = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

test('pm2: a reload cuts requests in flight before, and none after', async () => {
  const project = new Project([])
  const redis = await startRedis()
  const folder = project.write('pm2.md')
  writeFileSync(`${folder}/after/package.json`, '{"name":"shop","type":"module","dependencies":{"fastify-fleet":"*"}}')
  const eject = spawnSync(process.execPath, [cli, 'eject', 'pm2', '--name', 'shop'], {
    cwd: `${folder}/after`,
    encoding: 'utf8',
  })
  assert.equal(eject.status, 0, eject.stderr)

  /** Reloads an app with requests in flight on both of its processes. */
  async function reload(version: string): Promise<string> {
    const port = await freePort()
    const shared = { REDIS_URL: redis.url, SESSION_SECRET: secret, JWT_SECRET: secret }
    const pm2 = new Pm2({ ...shared, PORT: `${port}`, NODE_OPTIONS: project.hooks, NODE_ENV: undefined })
    await pm2.up()
    const command = (verb: string) => pm2.command([verb, 'ecosystem.config.cjs'], `${folder}/${version}`)
    command('start')
    const get = async (path: string): Promise<number> => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } })
      assert.equal(response.status, 200)
      return (await response.json()).pid
    }
    const processes = async (): Promise<Set<number>> =>
      new Set(await Promise.all(Array.from({ length: 8 }, () => get('/'))))
    await until(async () => (await processes()).size >= 2, { what: 'two processes' })
    const requests = Array.from({ length: 4 }, () => get('/slow'))
    const inFlight = Promise.allSettled(requests)
    const old = await processes() // The slow requests were accepted before these.
    await command('reload').exit
    const statuses = (await inFlight).map(({ status }) => (status === 'fulfilled' ? '200' : 'cut'))
    const served = await processes()
    assert.ok(
      [...served].every((pid) => !old.has(pid)),
      'both processes are new',
    )
    await pm2.stop()
    return [...new Set(statuses)].join()
  }

  const [row] = tableOf('pm2.md', 'What differs')
  assert.deepEqual(['the requests in flight', ...(await Promise.all(['before', 'after'].map(reload)))], row)
})
