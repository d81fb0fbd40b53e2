import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { dashboard } from '../../src/dashboard/index.ts'
import { type SmallFleet, smallFleet } from '../cli/small-fleet.ts'
import { launchChromium, missing } from '../helpers/chromium.ts'
import { until } from '../helpers/until.ts'

describe('the dashboard in Chromium', () => {
  let fleet: SmallFleet
  let browser: Browser

  before(async () => {
    if (missing) return
    fleet = await smallFleet({ development: true, extend: (app) => void app.register(dashboard, { refreshMs: 250 }) })
    browser = await launchChromium()
  })
  after(async () => {
    await browser?.close()
    await fleet?.close()
  })

  /** The dashboard in a context of its own, with what the console and the security policy reported. */
  const open = async (prepare?: (page: Page) => Promise<void>): Promise<Page & { problems: string[] }> => {
    const page = Object.assign(await browser.newPage(), { problems: [] as string[] })
    page.on('pageerror', (error) => page.problems.push(error.message))
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') page.problems.push(message.text())
    })
    await prepare?.(page)
    await page.goto(`${fleet.urls[0]}/fleet`)
    await until(async () => (await page.locator('article').count()) === 3, { what: 'three cards' })
    return page
  }
  const text = (page: Page, selector: string): Promise<string | null> => page.locator(selector).first().textContent()
  const focused = (page: Page): Promise<string | null> =>
    page.evaluate<string | null>(
      'document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent',
    )

  test('shows a card per instance with totals above, and meets its own content security policy', {
    skip: missing,
  }, async () => {
    const page = await open()
    assert.deepEqual(await page.locator('article h2').allTextContents(), ['small-1', 'small-2', 'small-3'])
    assert.equal(await text(page, '[data-total=serving]'), '3 of 3')
    assert.match((await text(page, '[data-total=memory]')) ?? '', /^\d+ MB$/)
    assert.match((await text(page, '#freshness')) ?? '', /^as seen by small-1 at \d\d:\d\d:\d\d$/)
    assert.match(
      (await text(page, 'article .place')) ?? '',
      new RegExp(`:\\d+ · pid ${process.pid} · v\\d+\\.\\d+\\.\\d+$`),
    )
    await until(async () => {
      const line = await page.locator('article .line').first().getAttribute('d')
      return (line?.match(/L/g) ?? []).length > 2
    })
    assert.deepEqual(page.problems, [])
  })

  test('drains and undrains by keyboard alone, and keeps the focus through every refresh', {
    skip: missing,
  }, async () => {
    const page = await open()
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'Pause updates')
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'Drain small-1')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await until(() => fleet.apps[1]?.fleet.state === 'draining')
    await until(async () => (await focused(page)) === 'Undrain small-2', { what: 'the button to turn' })
    assert.equal(await text(page, '#news'), 'small-2 is draining')
    assert.equal(await page.locator('#news').getAttribute('aria-live'), 'polite')
    assert.equal(await text(page, '[data-total=serving]'), '2 of 3')

    const drawn = await text(page, '#freshness')
    await until(async () => (await text(page, '#freshness')) !== drawn, { what: 'a refresh' })
    assert.equal(await focused(page), 'Undrain small-2')
    await page.keyboard.press('Enter')
    await until(() => fleet.apps[1]?.fleet.state === 'serving')
    await until(async () => (await focused(page)) === 'Drain small-2')
  })

  test('asks for confirmation before it drains the last serving instance', { skip: missing }, async () => {
    const page = await open()
    const [, second, third] = fleet.apps
    second?.fleet.drain()
    third?.fleet.drain()
    await until(async () => (await text(page, '[data-total=serving]')) === '1 of 3')
    let question = ''
    page.once('dialog', (dialog) => {
      question = dialog.message()
      void dialog.dismiss()
    })
    await page.getByRole('button', { name: 'Drain small-1' }).click()
    assert.match(question, /^small-1 is the last serving instance/)
    assert.equal(fleet.apps[0]?.fleet.state, 'serving')
    second?.fleet.undrain()
    third?.fleet.undrain()
  })

  test('pauses and resumes updates', { skip: missing }, async () => {
    const page = await open((page) => page.clock.install())
    const pause = page.locator('#pause')
    await pause.click()
    assert.equal(await pause.getAttribute('aria-pressed'), 'true')
    // A refresh that started before the click may still finish.
    await page.waitForLoadState('networkidle')
    let refreshes = 0
    page.on('request', () => refreshes++)
    await page.clock.runFor(10_000)
    assert.equal(refreshes, 0)
    await pause.click()
    await page.clock.runFor(10_000)
    await until(() => refreshes > 0, { what: 'updates again' })
  })

  test('fits narrow screens and has enough contrast in both colour schemes', { skip: missing }, async () => {
    const page = await open()
    await page.emulateMedia({ reducedMotion: 'reduce' })
    for (const [width, colorScheme] of [
      [320, 'light'],
      [400, 'dark'],
      [1280, 'light'],
      [1280, 'dark'],
    ] as const) {
      await page.setViewportSize({ width, height: 900 })
      await page.emulateMedia({ colorScheme })
      const overflow = await page.evaluate<number>(
        'document.documentElement.scrollWidth - document.documentElement.clientWidth',
      )
      assert.equal(overflow, 0, `${width} px`)
      assert.deepEqual(await page.evaluate<string[]>(`(${lowContrast})()`), [], colorScheme)
      const motion = 'getComputedStyle(document.querySelector(".meter > span")).transitionDuration'
      assert.equal(await page.evaluate<string>(motion), '0s')
    }
  })

  test('removes a missing instance and reports that the fleet does not respond', { skip: missing }, async () => {
    const page = await open()
    await page.getByRole('button', { name: 'Drain small-3' }).focus()
    const peers = fleet.apps[0]?.fleet.peers
    Object.assign(fleet.apps[0]?.fleet ?? {}, { peers: () => (peers?.() ?? []).slice(0, 2) })
    await until(async () => (await page.locator('article').count()) === 2)
    assert.equal(await text(page, '#news'), 'small-3 has left the fleet')
    assert.equal(await page.evaluate<string>('document.activeElement.tagName'), 'H1')
    await fleet.apps[0]?.close()
    await page.locator('body.stale').waitFor()
    assert.match((await text(page, '#freshness')) ?? '', /^no response since \d\d:\d\d:\d\d; trying again$/)
  })
})

/** Texts whose contrast with their background is below 4.5 to 1 (WCAG 2.2, 1.4.3), as the page computes it. */
const lowContrast = `() => {
  const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true })
  const luminance = (color) => {
    context.fillStyle = color
    context.fillRect(0, 0, 1, 1)
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const background = (element) => {
    const color = getComputedStyle(element).backgroundColor
    return color === 'rgba(0, 0, 0, 0)' && element.parentElement ? background(element.parentElement) : color
  }
  return [...document.querySelectorAll('h1, h2, p, dt, dd, button')].filter((e) => e.textContent.trim() && e.checkVisibility()).flatMap((e) => {
    const [a, b] = [luminance(getComputedStyle(e).color), luminance(background(e))].sort((x, y) => y - x)
    const ratio = (a + 0.05) / (b + 0.05)
    return ratio < 4.5 ? [e.textContent + ' ' + ratio.toFixed(2)] : []
  })
}`
