import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { launchChromium, missing } from '../helpers/chromium.ts'
import { until } from '../helpers/until.ts'
import { focused, openSample, refreshed, rows, text, untilText } from './in-browser.ts'
import { instanceOf, sampleOf } from './sample-fleet.ts'

describe('draining from the dashboard in Chromium', { skip: missing }, () => {
  let browser: Browser
  before(async () => {
    browser = await launchChromium()
  })
  after(() => browser?.close())

  /** Presses Tab until an element has the focus. */
  async function tabTo(page: Page, name: string): Promise<void> {
    for (let i = 0; i < 40 && (await focused(page)) !== name; i++) await page.keyboard.press('Tab')
    assert.equal(await focused(page), name)
  }

  for (const layout of ['Table', 'Cards']) {
    test(`drains and undrains by keyboard alone and keeps the focus through refreshes: ${layout}`, async (t) => {
      const sample = sampleOf(3)
      const page = await openSample(t, browser, sample, { view: 'instances' })
      await page.getByText(layout, { exact: true }).click()
      await tabTo(page, 'Drain web-2')
      await page.keyboard.press('Enter')
      await until(async () => (await focused(page)) === 'Undrain web-2', { what: 'the button to turn' })
      assert.deepEqual(sample.commands, ['drain web-2'])
      await untilText(page, '#news', 'web-2 is draining')
      await untilText(page, '#sentence', '2 of 3 serving; 1 draining')
      await refreshed(page)
      assert.equal(await focused(page), 'Undrain web-2')
      await page.keyboard.press('Enter')
      await until(async () => (await focused(page)) === 'Drain web-2')
      assert.deepEqual(sample.commands, ['drain web-2', 'undrain web-2'])
    })
  }

  test('keeps the focus on a row that another order moves, and gives it to the table if the row ends', async (t) => {
    const sample = sampleOf(4)
    const page = await openSample(t, browser, sample, { view: 'instances' })
    await page.getByRole('columnheader', { name: 'Requests/s' }).getByRole('button').click()
    await page.getByRole('button', { name: 'Drain web-2' }).focus()
    for (const rps of [500, 1]) {
      Object.assign(sample.state.instances[1] ?? {}, { rps })
      await until(async () => (await rows(page, '#instance-table')).at(rps > 100 ? 0 : -1)?.[0] === 'web-2')
      assert.equal(await focused(page), 'Drain web-2')
    }
    sample.state.instances.splice(1, 1)
    await until(async () => (await focused(page)) === 'Instances', { what: 'the table to have the focus' })
  })

  test('asks before it drains the last serving instance of the fleet or of a pool', async (t) => {
    const sample = sampleOf(2)
    sample.state.instances.push(instanceOf(3, Date.now(), { pool: 'api' }))
    const page = await openSample(t, browser, sample, { view: 'instances' })
    const question = page.locator('#guard-question')
    await page.getByRole('button', { name: 'Drain web-3' }).click()
    assert.match((await question.textContent()) ?? '', /^web-3 is the last serving instance of pool api\. /)
    assert.equal(await focused(page), 'Cancel')
    await page.keyboard.press('Escape')
    await question.waitFor({ state: 'hidden' })
    assert.equal(await focused(page), 'Drain web-3')
    for (const one of sample.state.instances.slice(1)) one.state = 'draining'
    await untilText(page, '#sentence', '1 of 3 serving; 2 draining')
    await page.getByRole('button', { name: 'Drain web-1' }).click()
    assert.match(
      (await question.textContent()) ?? '',
      /^web-1 is the last serving instance\. Without it every request fails\./,
    )
    await page.getByRole('button', { name: 'Cancel' }).click()
    assert.deepEqual(sample.commands, [])
    await page.getByRole('button', { name: 'Drain web-1' }).click()
    await page.getByRole('button', { name: 'Drain anyway' }).click()
    await until(() => sample.commands.join() === 'drain web-1')
    await untilText(page, '#sentence', '0 of 3 serving; 3 draining')
  })

  test('says why a command failed', async (t) => {
    const sample = sampleOf(3)
    sample.failing.set('drain', 503)
    const page = await openSample(t, browser, sample, { view: 'instances' })
    await page.getByRole('button', { name: 'Drain web-2' }).click()
    await untilText(page, '#news', 'Could not drain web-2: Redis is unavailable')
    assert.equal(await page.locator('[aria-disabled]').count(), 0)
    assert.equal(await text(page, '#sentence'), '3 of 3 serving')
  })

  test('narrow screens start with cards', async (t) => {
    const page = await openSample(t, browser, sampleOf(3), { view: 'instances', width: 390 })
    assert.equal(await page.locator('#cards article').count(), 3)
    assert.match(await text(page, '.place'), /^10\.0\.1\.11:3000 · pid 4001 · v2\.3\.1 · eu-central-1 · b$/)
    await until(
      async () => ((await page.locator('#cards .line').first().getAttribute('d'))?.match(/L/g) ?? []).length > 1,
    )
  })
})
