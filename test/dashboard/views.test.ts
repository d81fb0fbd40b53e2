import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { launchChromium, missing } from '../helpers/chromium.ts'
import { until } from '../helpers/until.ts'
import { openSample, refreshed, rows, text, untilText } from './in-browser.ts'
import { sampleOf } from './sample-fleet.ts'
import { scenarios } from './scenarios.ts'

const table = '#instance-table'
const large = (count: '200' | '1000' = '200') => scenarios[count]?.(Date.now()) ?? sampleOf(0)

describe('the views of the dashboard in Chromium', { skip: missing }, () => {
  let browser: Browser
  before(async () => {
    browser = await launchChromium()
  })
  after(() => browser?.close())

  const column = async (page: Page, index: number, selector = table): Promise<string[]> =>
    (await rows(page, selector)).map((row) => row[index] ?? '')

  test('the overview has totals, what needs attention first, and the last events', async (t) => {
    const page = await openSample(t, browser, large())
    const total = (name: string): Promise<string> => text(page, `[data-total=${name}]`)
    assert.equal(await total('serving'), '197 of 199')
    assert.match(await total('rps'), /^1\d,\d{3}$/)
    assert.equal(await total('errors'), '<0.1 %')
    assert.match(await total('p95'), /^2\d(\.\d)? ms$/)
    assert.match(await total('memory'), /^2\d\.\d GB$/)
    assert.deepEqual((await column(page, 0, '#brief')).slice(0, 3), ['web-23', 'web-17', 'web-31'])
    assert.deepEqual((await column(page, 1, '#brief')).slice(0, 3), ['lost', 'serving: mail fails', 'draining'])
    await untilText(page, '#last-events li', /lost.*web-23/)
    assert.equal(await text(page, '#all-instances'), 'all 198, 2 departed')
  })

  test('charts have axes with units, gaps where there is no data, and marks for events', async (t) => {
    const now = Date.now()
    const sample = scenarios.killed?.(now) ?? sampleOf(0)
    const { load } = sample
    sample.load = (at) => (at > now - 600_000 && at < now - 300_000 ? undefined : load(at))
    const page = await openSample(t, browser, sample)
    const chart = (title: string) =>
      page.locator('figure').filter({ has: page.getByRole('heading', { name: title, exact: true }) })
    const line = chart('Requests per second').locator('.line')
    await until(async () => ((await line.getAttribute('d'))?.match(/M/g) ?? []).length === 2, { what: 'a gap' })
    const labels = await chart('Response time').locator('svg text').allTextContents()
    assert.ok(labels.includes('0 ms') && labels.some((label) => /^\d\d:\d\d$/.test(label)), labels.join())
    assert.equal(await chart('Response time').locator('.line').count(), 3)
    assert.equal(await chart('Instances').locator('.mark[data-tone=bad]').count(), 1)
    sample.load = () => undefined
    await page.reload()
    await chart('Requests per second').getByText('No data in this range').waitFor()
  })

  test('charts are read out by pointer and by keyboard, all at the same time', async (t) => {
    const page = await openSample(t, browser, sampleOf(3))
    const chart = page.getByRole('slider', { name: 'Requests per second' })
    await until(async () => (await chart.getAttribute('aria-valuemax')) !== '0', { what: 'the history' })
    await chart.focus()
    await page.keyboard.press('Home')
    assert.equal(await chart.getAttribute('aria-valuenow'), '0')
    await page.keyboard.press('ArrowRight')
    assert.equal(await chart.getAttribute('aria-valuenow'), '1')
    assert.match((await chart.getAttribute('aria-valuetext')) ?? '', /^\d\d:\d\d:\d\d, requests \d+$/)
    const times = await page.locator('.when').allTextContents()
    assert.match(times[0] ?? '', /^\d\d:\d\d:\d\d$/)
    assert.deepEqual(new Set(times).size, 1, 'every chart shows the same time')
    await refreshed(page)
    assert.equal(await chart.getAttribute('aria-valuenow'), '1', 'a refresh does not move the cursor')
    await page.keyboard.press('Escape')
    assert.equal(await text(page, '.when'), '')
    await chart.hover()
    assert.match(await text(page, '.when'), /^\d\d:\d\d:\d\d$/)
  })

  test('the range is that of the history, which is read once and then continued', async (t) => {
    const sample = sampleOf(3)
    const page = await openSample(t, browser, sample)
    const asked: string[] = []
    page.on('request', (request) => {
      if (request.url().includes('/history')) asked.push(new URL(request.url()).search)
    })
    await page.getByText('24 h').click()
    await until(() => asked.includes('?range=24h'))
    const path = page.locator('#charts .line').first()
    await until(async () => ((await path.getAttribute('d'))?.match(/L/g) ?? []).length > 1000, { what: 'a day' })
    sample.state.at += 60_000
    await until(() => asked.some((query) => /^\?range=24h&since=\d+$/.test(query)), { what: 'the points since' })
  })

  test('a thousand instances are a table of which only the rows in sight exist', async (t) => {
    const page = await openSample(t, browser, large('1000'), { view: 'instances' })
    await until(async () => (await rows(page, table)).length > 0)
    assert.equal(await page.locator(`${table} table`).getAttribute('aria-rowcount'), '1001')
    assert.ok((await rows(page, table)).length < 60)
    assert.deepEqual((await column(page, 0)).slice(0, 3), ['web-1', 'web-2', 'web-3'], 'sorted as numbers')
    await page.evaluate(`document.querySelector('${table} .rows').scrollTop = 1e6`)
    await until(async () => (await column(page, 0)).at(-1) === 'web-12', { what: 'the oldest tombstone' })
    const last = page.locator(`${table} tbody tr:not(.space)`).last()
    assert.equal(await last.getAttribute('aria-rowindex'), '1001')
    assert.match((await last.textContent()) ?? '', /stopped.*9 min.* ago .*SIGTERM, drained in 5.2 s · was serving/)
    await refreshed(page)
    assert.equal((await column(page, 0)).at(-1), 'web-12', 'a refresh does not scroll')
  })

  test('the table sorts by any column, and departed instances stay last', async (t) => {
    const page = await openSample(t, browser, scenarios.killed?.(Date.now()) ?? sampleOf(0), { view: 'instances' })
    const heading = page.getByRole('columnheader', { name: 'p95' })
    await heading.getByRole('button').click()
    assert.equal(await heading.getAttribute('aria-sort'), 'descending')
    assert.deepEqual(await column(page, 0), ['web-1', 'web-3', 'web-2'])
    await heading.getByRole('button').click()
    assert.equal(await heading.getAttribute('aria-sort'), 'ascending')
    assert.deepEqual(await column(page, 0), ['web-3', 'web-1', 'web-2'])
    assert.equal(await page.locator('th[aria-sort]').count(), 1)
  })

  test('filters are in the address, and work on table and cards', async (t) => {
    const page = await openSample(t, browser, large(), { view: 'instances' })
    await page.getByLabel('Pool').selectOption('api')
    await page.locator('#filters').getByLabel('Find').fill('web-1')
    // Playwright learns of a new address after the page.
    assert.equal(await page.evaluate<string>('location.hash'), '#instances?text=web-1&pool=api')
    const pools = new Set(await column(page, 3))
    assert.match(await text(page, '#matches'), /^\d+ of 198 instances, \d+ departed$/)
    await page.goto(`${page.server.url}#instances?state=lost`)
    await page.reload()
    await until(async () => (await column(page, 0)).join() === 'web-23')
    await page.getByLabel('State').selectOption('')
    await page.getByText('Cards').click()
    await page.locator('#cards article').first().waitFor()
    assert.equal(await page.locator('#cards article').count(), 60)
    assert.match(await text(page, '#matches'), /; the first 60 as cards$/)
    await page.locator('#filters').getByLabel('Find').fill('web-23')
    await until(async () => (await page.locator('#cards article').count()) === 1)
    assert.match(await text(page, '#cards article'), /web-23\s*lost/)
    assert.deepEqual([...pools], ['api'])
  })

  test('the timeline has days, filters, and older events on request', async (t) => {
    const sample = large()
    sample.events.push(
      ...Array.from({ length: 120 }, (_, i) => ({
        id: `old-${i}`,
        at: sample.state.at - 40 * 3_600_000 - i * 60_000,
        kind: i % 2 ? 'check-failed' : 'leader-changed',
        instance: 'web-1',
        text: `number ${i}`,
      })),
    )
    const page = await openSample(t, browser, sample, { view: 'timeline' })
    const items = page.locator('#days li')
    await until(async () => (await items.count()) === 100, { what: 'a page of events' })
    assert.match(await text(page, '#days li'), /^\d\d:\d\d:\d\dlostweb-23 last seen 12 s before v2.3.1$/)
    await page.locator('#older').click()
    await until(async () => (await items.count()) > 190, { what: 'older events' })
    assert.equal((await page.locator('#days h3').count()) > 1, true)
    for (const group of ['Instances', 'Deploys', 'Fleet'])
      await page.getByRole('checkbox', { name: group, exact: true }).uncheck({ force: true })
    assert.deepEqual([...new Set(await page.locator('#days .kind').allTextContents())], ['check failed'])
    await page.locator('#event-filters').getByLabel('Find').fill('NUMBER 77')
    await until(async () => (await items.allTextContents()).every((item) => item.includes('number 77')))
    sample.events.unshift({
      id: 'new',
      at: sample.state.at,
      kind: 'check-failed',
      instance: 'web-1',
      text: 'number 77, again',
    })
    await untilText(page, '#days li', /number 77, again/)
  })

  test('routes sort by requests, by response time and by failures', async (t) => {
    const page = await openSample(t, browser, sampleOf(3), { view: 'routes' })
    const first = async (): Promise<string | undefined> => (await rows(page, '#route-table'))[0]?.[0]
    await until(async () => (await first()) === 'GET /')
    assert.equal(await text(page, '#route-note'), 'of the last 15 min')
    await page.getByText('Slowest', { exact: true }).click()
    assert.equal(await first(), 'GET /api/reports/:year')
    await page.getByText('Most failing').click()
    assert.equal(await first(), 'POST /api/orders')
    assert.equal((await rows(page, '#route-table'))[0]?.at(-1), '1.2 %')
    await page.locator('#route-filters').getByLabel('Find').fill('cart')
    assert.deepEqual(await column(page, 0, '#route-table'), ['POST /api/cart', 'GET /api/cart'])
  })

  test('dependencies show Redis, the database with its replicas, and which instances fail a check', async (t) => {
    const sample = sampleOf(3)
    const page = await openSample(t, browser, sample, { view: 'dependencies' })
    await untilText(page, '#dependency-redis .state', 'ok')
    assert.match(await text(page, '.facts'), /Role.*primary.*Memory.*212 MB of 1.1 GB \(20 %\).*Evicted keys.*0/)
    assert.deepEqual((await rows(page, '#dependencies section:nth-child(2)'))[1], [
      'replica-1',
      'ok',
      '12 ms',
      '52 %',
      '3 of 10 used',
    ])
    const checks = [{ name: 'mail', critical: false, failing: ['web-2'], instances: 3 }]
    sample.dependencies = { redis: null, database: null, checks }
    await untilText(page, '#dependency-checks .state', 'degraded')
    assert.deepEqual(await rows(page, '#dependencies section:nth-child(3)'), [
      ['mail', 'degraded only', 'fails on web-2'],
    ])
    assert.equal(await page.locator('#dependency-database').isVisible(), false)
    assert.match(await text(page, '.facts'), /not used/)
  })

  test('a deploy shows its versions side by side and its progress', async (t) => {
    const sample = scenarios.canary?.(Date.now()) ?? sampleOf(0)
    const page = await openSample(t, browser, sample, { view: 'deploy' })
    await untilText(page, '#deploy-summary', /^Version 2.4.0: running for 5 min.*, step 3 of 6$/)
    const [canary, stable] = await rows(page, '#version-table')
    assert.deepEqual([canary?.[0], canary?.[1], canary?.[2], canary?.[4]], ['2.4.0', '1 of 1', '4.6 %', '1.2 %'])
    assert.deepEqual([stable?.[0], stable?.[1], stable?.[2], stable?.[4]], ['2.3.1', '3 of 3', '95 %', '<0.1 %'])
    assert.deepEqual(await page.locator('#deploy-steps .kind').allTextContents(), [
      'deploy started',
      ...Array(3).fill('deploy step'),
    ])
    assert.equal(await page.locator('#deploy-progress').getAttribute('value'), '2.5')
    sample.events.unshift({
      id: 'end',
      at: sample.state.at,
      kind: 'deploy-failed',
      version: '2.4.0',
      text: 'the canary is worse',
    })
    await untilText(page, '#deploy-summary', /^Version 2.4.0: failed after 5 min, step 3 of 6$/)
    await page.getByRole('link', { name: '2.4.0' }).click()
    await until(async () => (await column(page, 0)).join() === 'web-4')
  })
})
