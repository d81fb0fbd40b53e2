import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { listens, project, withPlugin } from '../cli/up/apps.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { Pm2 } from './pm2.ts'

const shipped = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')

/** Runs `pm2 start` without a file in a folder with the shipped files, two processes. */
async function start(env: Record<string, string | undefined>, ...args: string[]): Promise<{ pm2: Pm2; url: string }> {
  const port = await freePort()
  const pm2 = new Pm2({ PORT: String(port), NODE_ENV: undefined, REDIS_URL: undefined, ...env })
  const cwd = project({
    'app.ts': withPlugin + listens,
    'ecosystem.config.js': shipped('ecosystem.config.js'),
    'ecosystem.config.cjs': shipped('ecosystem.config.cjs')
      .replaceAll('./src/app/main.ts', './app.ts')
      .replace("instances: 'max'", 'instances: 2'),
  })
  await pm2.up()
  // It waits for processes that never become ready, so its end is not awaited.
  pm2.command(['start', ...args], cwd)
  return { pm2, url: `http://127.0.0.1:${port}` }
}

describe('pm2 start, without a file', { concurrency: 3 }, () => {
  test('is production, which is rejected without Redis', async () => {
    const { pm2, url } = await start({})
    await until(() => /in-memory state in production: set REDIS_URL/.test(pm2.errors))
    await assert.rejects(fetch(url))
    await pm2.stop()
  })

  test('rejects two processes with separate memory in development, too', async () => {
    const { pm2 } = await start({}, '--env', 'development')
    await until(() => /set REDIS_URL, because each of 2 processes/.test(pm2.errors))
    await pm2.stop()
  })

  test('serves with Redis and secrets', async () => {
    const redis = await startRedis()
    const secret = randomBytes(32).toString('hex')
    const { pm2, url } = await start({ REDIS_URL: redis.url, SESSION_SECRET: secret, JWT_SECRET: secret })
    const ids = new Set<string | null>()
    await until(
      async () => {
        const response = await fetch(`${url}/ready`, { headers: { connection: 'close' } })
        if (response.ok) ids.add(response.headers.get('x-instance-id'))
        return ids.size === 2
      },
      { what: 'both processes' },
    )
    await pm2.stop()
  })
})
