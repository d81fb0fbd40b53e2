import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { launchChromium, missing } from '../helpers/chromium.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { rows, text, untilText, watch } from './in-browser.ts'

const fixture = new URL('fixtures/instance.ts', import.meta.url)

interface Instance {
  readonly app: App
  readonly url: string
}

async function start(t: TestContext, id: string, redisUrl: string): Promise<Instance> {
  const app = forkApp(fixture, { env: { INSTANCE_ID: id, REDIS_URL: redisUrl, NODE_ENV: undefined, PORT: undefined } })
  t.after(() => app.kill())
  const [, port] = await app.waitFor(/listening (\d+)/)
  return { app, url: `http://127.0.0.1:${port}` }
}

test('shows a real fleet: a drain, a kill, a stop, its traffic, and an outage of Redis', {
  skip: missing,
}, async (t) => {
  const redis = await startRedis()
  t.after(() => redis.stop())
  const [one, two, three] = await Promise.all(['web-1', 'web-2', 'web-3'].map((id) => start(t, id, redis.url)))
  assert.ok(one && two && three)
  const browser = await launchChromium()
  t.after(() => browser.close())
  const page = await browser.newPage()
  const problems = watch(page)
  await page.goto(`${one.url}/fleet#instances`)
  await untilText(page, '#sentence', '3 of 3 serving')
  const state = async (id: string): Promise<string | undefined> =>
    (await rows(page, '#instance-table')).find((row) => row[0] === id)?.[1]

  // Traffic: charts and routes have it once its step is over.
  for (const { url } of [one, two, three]) {
    for (let i = 0; i < 20; i++) await (await fetch(`${url}/orders/${i}`)).arrayBuffer()
    await (await fetch(`${url}/broken`)).arrayBuffer()
  }

  await page.getByRole('button', { name: 'Drain web-3' }).click()
  await untilText(page, '#sentence', '2 of 3 serving; 1 draining')
  await page.getByRole('button', { name: 'Undrain web-3' }).click()
  await untilText(page, '#sentence', '3 of 3 serving')

  // kill -9: a tombstone with the last words, an event, and a fleet that misses one.
  await two.app.kill('SIGKILL')
  await untilText(page, '#sentence', /^2 of 3 serving; web-2 lost \d+ s ago$/)
  await until(async () => (await state('web-2')) === 'lost')
  const tombstone = (await rows(page, '#instance-table')).find((row) => row[0] === 'web-2')
  assert.match(tombstone?.at(-1) ?? '', /^\d+ s ago \(\d\d:\d\d:\d\d\) · last seen \d+ s before · was serving$/)
  await page.goto(`${one.url}/fleet#timeline`)
  // A busy machine may fail a check of the event loop in between.
  await page.getByRole('checkbox', { name: 'Checks' }).uncheck({ force: true })
  await untilText(page, '#days li', /lostweb-2 last seen \d+ s before/)
  const kinds = page.locator('#days li').filter({ hasText: 'web-3' }).locator('.kind')
  await until(async () => (await kinds.allTextContents()).join() === 'undrained,draining,ready,started')

  // One that stops in order is not missed.
  await three.app.kill('SIGTERM')
  await untilText(page, '#days li', /stoppedweb-3 SIGTERM, drained in/)
  await untilText(page, '#sentence', /^1 of 2 serving; web-2 lost/)

  // What web-2 had counted since its last step, which may have ended between two requests, is lost with it.
  await page.goto(`${one.url}/fleet#routes`)
  const figures = async (name: string): Promise<string | undefined> =>
    (await rows(page, '#route-table')).find((row) => row[0] === name)?.[1]
  await until(async () => /^(?:[45]\d|60)$/.test((await figures('GET /orders/:id')) ?? ''), {
    what: 'the requests of two instances',
  })
  await page.getByText('Most failing').click()
  assert.equal((await rows(page, '#route-table'))[0]?.[0], 'GET /broken')
  await page.goto(`${one.url}/fleet#overview`)
  await until(async () => ((await page.locator('#charts .line').first().getAttribute('d')) ?? '') !== '', {
    what: 'a point',
  })
  await page.goto(`${one.url}/fleet#dependencies`)
  await untilText(page, '#dependency-redis .state', 'ok')
  assert.match(await text(page, '.facts'), /Role.*(master|primary)/)
  assert.deepEqual(problems, [])

  await redis.stop()
  await untilText(page, '#sentence', /Redis (degraded|down) for \d+ s/)
  await untilText(page, '#dependency-redis .state', /^(degraded|down)$/)
})
