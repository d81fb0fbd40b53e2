import assert from 'node:assert/strict'
import { after } from 'node:test'
import { Redis } from 'ioredis'
import type { RedisOptions } from '../../../src/state/redis/index.ts'
import type { RedisServer } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { build, type TestApp } from './app.ts'
import type { Browser } from './browser.ts'

const apps: TestApp[] = []
after(() => Promise.all(apps.map((app) => app.close())))

/** An app with tracked sessions. It is closed after the test file. */
export async function start(where: RedisOptions): Promise<TestApp> {
  const app = await build(where, { track: true })
  apps.push(app)
  return app
}

/** The number of GET commands that servers have received. */
export async function reads(...servers: RedisServer[]): Promise<number> {
  let calls = 0
  for (const { url } of servers) {
    const client = new Redis(url)
    const stats = await client.info('commandstats')
    calls += Number(/cmdstat_get:calls=(\d+)/.exec(stats)?.[1] ?? 0)
    client.disconnect()
  }
  return calls
}

/** Loads sessions until they come from the cache. */
export async function untilCached(
  app: TestApp,
  browsers: Browser | Browser[],
  ...servers: RedisServer[]
): Promise<void> {
  await until(
    async () => {
      const requested = await reads(...servers)
      for (const browser of [browsers].flat()) await browser.clone().get(app, '/')
      return (await reads(...servers)) === requested
    },
    { what: 'the session to be cached' },
  )
}

/** Waits until a session that was just ended is no longer served, within the promised second. */
export async function untilEnded(app: TestApp, browser: Browser): Promise<void> {
  const since = performance.now()
  let servedMs = 0
  await until(async () => {
    const requested = performance.now()
    const { statusCode, body } = await browser.clone().get(app, '/')
    if (statusCode !== 200 || body === '{}') return true
    servedMs = requested - since
    return false
  })
  assert.ok(servedMs <= 1000, `an ended session was served ${servedMs} ms later`)
}
