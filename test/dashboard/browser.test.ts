import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Browser } from 'playwright-core'
import { launchChromium, missing } from '../helpers/chromium.ts'
import { until } from '../helpers/until.ts'
import { assertReadable, focused, openSample, refreshed, resize, rows, text, untilText } from './in-browser.ts'
import { instanceOf, sampleOf } from './sample-fleet.ts'
import { scenarios } from './scenarios.ts'

describe('the dashboard in Chromium', { skip: missing }, () => {
  let browser: Browser
  before(async () => {
    browser = await launchChromium()
  })
  after(() => browser?.close())

  const views = ['overview', 'instances', 'timeline', 'routes', 'dependencies', 'deploy']

  test('shows each view by its link and by its address, and meets its own content security policy', async (t) => {
    const page = await openSample(t, browser, sampleOf(3))
    assert.equal(await text(page, '#sentence'), '3 of 3 serving')
    assert.match(await text(page, '#freshness'), /^as seen by web-1 at \d\d:\d\d:\d\d$/)
    assert.equal(await page.title(), '3 of 3 serving · shop')
    for (const view of views) {
      await page.locator(`nav a[href="#${view}"]`).click()
      await page.locator(`#view-${view}`).waitFor()
      assert.equal(await page.locator('main > div:visible').count(), 1, view)
      assert.equal(await page.locator('nav [aria-current=page]').getAttribute('href'), `#${view}`)
    }
    await page.goBack()
    await page.locator('#view-dependencies').waitFor()
    assert.deepEqual(page.problems, [])
  })

  const sentences: Record<string, [tone: string, sentence: RegExp]> = {
    healthy: ['good', /^3 of 3 serving$/],
    killed: ['warn', /^2 of 3 serving; web-2 killed 1\d s ago$/],
    draining: ['warn', /^2 of 3 serving; 1 draining$/],
    'none-serving': ['bad', /^0 of 3 serving; 3 draining; check database fails on 3 instances$/],
    'redis-down': ['bad', /^3 of 3 serving; Redis down for 1\d s; instances as last known$/],
    '1000': ['warn', /^997 of 999 serving; 1 draining; web-23 lost 1\d s ago; check mail fails on 1 instance$/],
    empty: ['bad', /^No instance is known$/],
  }
  for (const [name, [tone, sentence]] of Object.entries(sentences)) {
    test(`says what is wrong: ${name}`, async (t) => {
      const sample = scenarios[name]?.(Date.now()) ?? sampleOf(0)
      const page = await openSample(t, browser, sample)
      assert.match(await text(page, '#sentence'), sentence)
      assert.equal(await page.locator('#sentence').getAttribute('data-tone'), tone)
      // The header of the responses that the scenario fails is reported by the browser itself.
      assert.deepEqual(
        page.problems.filter((problem) => !problem.startsWith('Failed to load resource')),
        [],
      )
    })
  }

  test('is red if less than half of the instances serve, and forgets a killed one that was replaced', async (t) => {
    const now = Date.now()
    const sample = sampleOf(3, now)
    for (const one of sample.state.instances.slice(1)) one.state = 'starting'
    const page = await openSample(t, browser, sample)
    assert.equal(await text(page, '#sentence'), '1 of 3 serving; 2 starting')
    assert.equal(await page.locator('#sentence').getAttribute('data-tone'), 'bad')
    sample.state = scenarios.killed?.(now).state ?? sample.state
    await untilText(page, '#sentence', /^2 of 3 serving; web-2 killed/)
    sample.state.instances.push(instanceOf(9, now, { startedAt: now - 5000 }))
    await untilText(page, '#sentence', '3 of 3 serving')
  })

  test('says that an instance is gone before the fleet knows why, and forgets one that it never explains', async (t) => {
    const sample = sampleOf(4)
    const page = await openSample(t, browser, sample, { view: 'instances' })
    const [lost] = sample.state.instances.splice(3, 1)
    await untilText(page, '#sentence', /^3 of 4 serving; web-4 gone \d s ago$/)
    assert.equal(await text(page, '#news'), 'web-4 is gone')
    assert.deepEqual((await rows(page, '#instance-table')).at(-1)?.slice(0, 2), ['web-4', 'gone'])
    sample.state.departed.push({ ...lost, reason: 'lost', detail: 'last seen 12 s before', at: sample.state.at })
    await untilText(page, '#news', 'web-4 was lost')
    assert.equal((await rows(page, '#instance-table')).length, 4)
    sample.state.instances.pop()
    await untilText(page, '#sentence', /^2 of 4 serving; 2 ended unexpectedly/)
    sample.state.at += 10_000
    for (const one of sample.state.instances) one.lastSeen = sample.state.at
    await untilText(page, '#sentence', /^2 of 3 serving; web-4 lost 1\d s ago$/)
  })

  test('announces changes of state only, and many of them as one', async (t) => {
    const sample = sampleOf(6)
    const page = await openSample(t, browser, sample)
    assert.equal(await page.locator('#news').getAttribute('aria-live'), 'polite')
    await refreshed(page)
    assert.equal(await text(page, '#news'), '')
    Object.assign(sample.state.instances[1] ?? {}, { state: 'draining' })
    await untilText(page, '#news', 'web-2 is draining')
    sample.state.instances.push(instanceOf(7, Date.now()))
    await untilText(page, '#news', 'web-7 has joined the fleet')
    const [gone] = sample.state.instances.splice(2, 1)
    sample.state.departed.push({ ...gone, reason: 'killed', detail: 'SIGKILL', at: Date.now() })
    await untilText(page, '#news', 'web-3 was killed')
    for (const one of sample.state.instances) one.state = 'draining'
    await untilText(page, '#news', /^5 changes; 0 of 7 serving/)
  })

  test('pauses and resumes updates', async (t) => {
    const page = await openSample(t, browser, sampleOf(3), { prepare: (page) => page.clock.install() })
    const pause = page.locator('#pause')
    await pause.click()
    assert.equal(await pause.getAttribute('aria-pressed'), 'true')
    // A refresh that started before the click may still finish.
    await page.evaluate('running')
    let refreshes = 0
    page.on('request', () => refreshes++)
    await page.clock.runFor(10_000)
    assert.equal(refreshes, 0)
    await pause.click()
    await page.clock.runFor(10_000)
    await until(() => refreshes > 0, { what: 'updates again' })
  })

  test('says that the fleet does not respond, keeps what it shows, and recovers', async (t) => {
    const sample = sampleOf(3)
    const page = await openSample(t, browser, sample, { view: 'instances' })
    sample.failing.set('state', 500)
    await untilText(page, '#sentence', /^No response since \d\d:\d\d:\d\d; trying again$/)
    assert.equal(await page.locator('#sentence').getAttribute('data-tone'), 'bad')
    assert.equal(await text(page, '#news'), 'The fleet does not respond')
    assert.equal(await page.title(), 'no response · shop')
    assert.equal((await rows(page, '#instance-table')).length, 3)
    sample.failing.clear()
    await untilText(page, '#sentence', '3 of 3 serving')
    assert.equal(await text(page, '#news'), 'The fleet responds again')
  })

  test('says which view an instance of an older version does not have; the others work', async (t) => {
    const sample = sampleOf(3)
    for (const path of ['history', 'events', 'routes', 'dependencies']) sample.failing.set(path, 404)
    const page = await openSample(t, browser, sample)
    for (const name of ['history', 'events']) {
      await untilText(
        page,
        `#view-overview [data-notice=${name}]`,
        `web-1 has no ${name}: it runs an older version, or dashboard.history is false.`,
      )
    }
    assert.equal(await text(page, '[data-total=serving]'), '3 of 3')
    for (const name of ['routes', 'dependencies']) {
      await page.goto(`${page.server.url}#${name}`)
      await untilText(page, `#view-${name} [data-notice=${name}]`, /^web-1 has no/)
    }
    sample.failing.clear()
    await page.locator('#dependencies').waitFor()
    assert.equal(await page.locator('#view-dependencies [data-notice]').isVisible(), false)
  })

  test('reads the state of an instance of an older version', async (t) => {
    const sample = sampleOf(2)
    const older = sample.state.instances.map(({ loop, errorRate, startedAt, ...instance }) => ({
      ...instance,
      eventLoopUtilization: loop,
      startedAt: new Date(Number(startedAt)).toISOString(),
      lastSeen: new Date().toISOString(),
    }))
    const page = await openSample(t, browser, sample, {
      view: 'instances',
      prepare: async (page) =>
        void (await page.route('**/state', (route) =>
          route.fulfill({ json: { answeredBy: 'web-2', instances: older } }),
        )),
    })
    assert.equal(await text(page, '#sentence'), '2 of 2 serving')
    const [first] = await rows(page, '#instance-table')
    assert.deepEqual(first?.slice(0, 3), ['web-1', 'serving', '2.3.1'])
    assert.ok(first?.includes('36 %') && first.includes('–') && first.includes('5 h'), String(first))
    assert.deepEqual(page.problems, [])
  })

  test('shows values of the fleet as text, whatever is in them', async (t) => {
    const sample = sampleOf(2)
    const evil = '"><img src=x onerror="document.title=\'evil\'">'
    Object.assign(sample.state.instances[0] ?? {}, { id: evil, version: evil, zone: evil, pool: evil, failing: [evil] })
    sample.state.departed.push({
      ...instanceOf(8, Date.now()),
      id: evil,
      reason: 'lost',
      detail: evil,
      state: evil,
      at: Date.now(),
    })
    sample.events.unshift({ id: evil, at: Date.now(), kind: evil, instance: evil, version: evil, text: evil })
    Object.assign(sample.routes[0] ?? {}, { route: evil })
    Object.assign(sample.dependencies, { checks: [{ name: evil, critical: true, failing: [evil], instances: 2 }] })
    const page = await openSample(t, browser, sample)
    for (const view of views) {
      await page.goto(`${page.server.url}#${view}`)
      await until(async () => (await text(page, `#view-${view}`)).includes(evil), {
        what: `${view} with it`,
      })
      assert.equal(await page.locator('img').count(), 0, view)
    }
    await page.goto(`${page.server.url}#instances`)
    await page.getByText('Cards').click()
    await until(async () => (await text(page, '#cards')).includes(evil))
    assert.equal(await page.locator('img').count(), 0)
    assert.deepEqual(page.problems, [])
  })

  test('every view is readable from 320 pixels on, in both colour schemes, and moves nothing', async (t) => {
    const page = await openSample(t, browser, scenarios.killed?.(Date.now()) ?? sampleOf(0))
    await page.emulateMedia({ reducedMotion: 'reduce' })
    for (const view of views) {
      await page.goto(`${page.server.url}#${view}`)
      await refreshed(page)
      for (const width of [320, 1280]) {
        await resize(page, width, 900)
        await assertReadable(page, `${view} at ${width} px`)
      }
    }
    assert.deepEqual(await page.evaluate<unknown[]>('document.getAnimations()'), [])
  })

  test('keeps the focus in the header through refreshes', async (t) => {
    const page = await openSample(t, browser, sampleOf(3))
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'Pause updates')
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'Overview')
    await refreshed(page)
    assert.equal(await focused(page), 'Overview')
  })
})
