import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { after, before, describe, test } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { page as reportPage } from '../../src/cli/smoke/html.ts'
import { sampleReport } from '../cli/fleet-test/sample-report.ts'
import { launchChromium, missing } from '../helpers/chromium.ts'
import { openSample, refreshed, resize, untilText } from './in-browser.ts'
import { start } from './operators.ts'
import { sampleOf } from './sample-fleet.ts'
import { scenarios } from './scenarios.ts'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const script = new URL('../../scripts/screenshot.js', import.meta.url).href
const { pictures } = (await import(script)) as { pictures: { name: string; scenario?: string; view?: string }[] }

/** The states of the pictures in docs/images, each once. */
const states = new Map(
  pictures.map(({ name, scenario = name, view = 'overview' }) => [`${scenario}, ${view}`, { scenario, view }]),
)

const report = sampleReport({
  verdict: 'fail',
  distribution: {
    ...{ requests: 250, failed: 3, p95: 40 },
    shares: ['a', 'b'].map((instanceId) => ({ instanceId, requests: 125, expected: 125, p50: 5, p95: 40 })),
  },
  timelines: [
    {
      ...{ check: 'kill', bucketMs: 100, failed: [0, 1] },
      instances: Array.from({ length: 9 }, (_, i) => ({ instanceId: `i-${i}`, requests: [i, 4] })),
      events: [{ atMs: 100, text: 'the command ran' }],
    },
  ],
})

/**
 * The violations of axe, which checks the elements one after the other: on one that a refresh has removed meanwhile it finds
 * what no user meets. So violations count if nothing changed during the run, or if it found some ten times in a row.
 */
const runAxe = `async (options) => {
  for (let run = 1; ; run++) {
    let changes = 0
    const observer = new MutationObserver((records) => { changes += records.length })
    observer.observe(document, { subtree: true, childList: true })
    const { violations } = await axe.run({ exclude: [['svg[aria-hidden=true]']] }, options)
    observer.disconnect()
    if (violations.length === 0 || changes === 0 || run === 10) return violations
  }
}`

/** What axe finds in light and dark, at two widths. Colours decide about contrast only, and charts are hidden from screen readers. */
async function violations(page: Page): Promise<string[]> {
  if (!(await page.evaluate<boolean>('"axe" in window'))) await page.evaluate(axe)
  const found: string[] = []
  for (const width of [1280, 390]) {
    await resize(page, width, 800)
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
      const rules = colorScheme === 'dark' ? { runOnly: ['color-contrast'] } : {}
      const options = JSON.stringify({ resultTypes: ['violations'], ...rules })
      const results = await page.evaluate<{ id: string; nodes: { html: string; failureSummary: string }[] }[]>(
        `(${runAxe})(${options})`,
      )
      const where = `${colorScheme}, ${width} px`
      for (const { id, nodes } of results)
        found.push(`${id} (${where}): ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join('; ')}`)
    }
  }
  return found
}

// Each page has a process of its own in the browser.
describe('axe finds no violation', { skip: missing, concurrency: 2 }, () => {
  let browser: Browser
  before(async () => {
    browser = await launchChromium()
  })
  after(() => browser?.close())

  for (const [name, { scenario, view }] of states) {
    test(`in the dashboard: ${name}`, async (t) => {
      const sample = scenarios[scenario]?.(Date.now()) ?? sampleOf(0)
      const page = await openSample(t, browser, sample, { view })
      if (scenario === 'error') {
        sample.failing.set('state', 503)
        await untilText(page, '#sentence', /^No response since/)
      } else {
        await refreshed(page)
      }
      assert.deepEqual(await violations(page), [])
    })
  }

  test('in the dashboard: instances as cards', async (t) => {
    const page = await openSample(t, browser, scenarios.killed?.(Date.now()) ?? sampleOf(0), { view: 'instances' })
    await page.getByText('Cards').click()
    assert.deepEqual(await violations(page), [])
  })

  test('in the sign-in page', async (t) => {
    const { url } = await start(t)
    const page = await browser.newPage()
    t.after(() => page.close())
    await page.goto(`${url}/fleet`)
    assert.deepEqual(await violations(page), [])
  })

  test('in the HTML report of fleet test', async (t) => {
    const page = await browser.newPage()
    t.after(() => page.close())
    await page.setContent(reportPage(report))
    assert.deepEqual(await violations(page), [])
  })

  test('unless there is one', async (t) => {
    const page = await browser.newPage()
    t.after(() => page.close())
    await page.setContent('<!doctype html><html lang="en"><title>x</title><main><h1>x</h1><img src="data:,"></main>')
    assert.match((await violations(page)).join(), /^image-alt \(light, 1280 px\): <img/)
  })
})
