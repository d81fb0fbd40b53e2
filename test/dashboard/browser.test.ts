import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { dashboard } from '../../src/dashboard/index.ts'
import { type SmallFleet, smallFleet } from '../cli/small-fleet.ts'
import { until } from '../helpers/until.ts'
import { type Browser, chromium, launch, type Page } from './chromium.ts'

// A browser is no part of what `npm ci` brings; where there is none, dashboard.test.ts is what can be tested.
if (chromium) {
  const program = chromium
  let fleet: SmallFleet
  let browser: Browser

  before(async () => {
    fleet = await smallFleet({ development: true, extend: (app) => void app.register(dashboard, { refreshMs: 250 }) })
    browser = await launch(program)
  })
  after(async () => {
    await browser?.close()
    await fleet?.close()
  })

  const open = async (): Promise<Page> => {
    const page = await browser.open(`${fleet.urls[0]}/fleet`)
    await until(() => page.evaluate('document.querySelectorAll("article").length === 3'), { what: 'three cards' })
    return page
  }
  const text = (page: Page, selector: string): Promise<string> =>
    page.evaluate(`document.querySelector(${JSON.stringify(selector)}).textContent`)
  const focused = (page: Page): Promise<string | null> =>
    page.evaluate('document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent')

  test('every instance is a card, with totals above, and the policy has nothing to complain of', async () => {
    const page = await open()
    const names = await page.evaluate('[...document.querySelectorAll("article h2")].map((e) => e.textContent)')
    assert.deepEqual(names, ['small-1', 'small-2', 'small-3'])
    assert.equal(await text(page, '[data-total=serving]'), '3 of 3')
    assert.match(await text(page, '[data-total=memory]'), /^\d+ MB$/)
    assert.match(await text(page, '#freshness'), /^as seen by small-1 at \d\d:\d\d:\d\d$/)
    assert.match(await text(page, 'article .place'), new RegExp(`:\\d+ · pid ${process.pid} · v0\\.0\\.0$`))
    await until(() =>
      page.evaluate('(document.querySelector("article .line").getAttribute("d").match(/L/g) ?? []).length > 2'),
    )
    assert.deepEqual(page.complaints, [])
  })

  test('by keyboard alone: drain and undrain, with the focus kept through every refresh', async () => {
    const page = await open()
    await page.press('Tab')
    assert.equal(await focused(page), 'Pause updates')
    await page.press('Tab')
    assert.equal(await focused(page), 'Drain small-1')
    await page.press('Tab')
    await page.press('Enter')
    await until(() => fleet.apps[1]?.fleet.state === 'draining')
    await until(async () => (await focused(page)) === 'Undrain small-2', { what: 'the button to turn' })
    assert.equal(await text(page, '#news'), 'small-2 is draining')
    assert.equal(await page.evaluate('document.querySelector("#news").getAttribute("aria-live")'), 'polite')
    assert.equal(await text(page, '[data-total=serving]'), '2 of 3')

    const drawn = await text(page, '#freshness')
    await until(async () => (await text(page, '#freshness')) !== drawn, { what: 'a refresh' })
    assert.equal(await focused(page), 'Undrain small-2')
    await page.press('Enter')
    await until(() => fleet.apps[1]?.fleet.state === 'serving')
    await until(async () => (await focused(page)) === 'Drain small-2')
  })

  test('the last instance that serves is drained only after a question', async () => {
    const page = await open()
    const [, second, third] = fleet.apps
    second?.fleet.drain()
    third?.fleet.drain()
    await until(async () => (await text(page, '[data-total=serving]')) === '1 of 3')
    await page.evaluate('window.confirm = (question) => { window.asked = question; return false }')
    await page.evaluate('document.querySelector("[aria-label=\'Drain small-1\']").click()')
    assert.match(await page.evaluate('window.asked'), /^small-1 is the last instance that serves/)
    assert.equal(fleet.apps[0]?.fleet.state, 'serving')
    second?.fleet.undrain()
    third?.fleet.undrain()
  })

  test('updates can be paused', async () => {
    const page = await open()
    // A look that is under way has asked already.
    await page.evaluate(`
      const ask = window.fetch
      window.looks = 0
      window.fetch = (...given) => (window.looks++, ask(...given))
      document.querySelector('#pause').click()
    `)
    assert.equal(await page.evaluate('document.querySelector("#pause").getAttribute("aria-pressed")'), 'true')
    await page.evaluate('new Promise((resolve) => setTimeout(resolve, 600))')
    assert.equal(await page.evaluate('window.looks'), 0)
    await page.evaluate('document.querySelector("#pause").click()')
    await until(() => page.evaluate('window.looks > 0'), { what: 'updates again' })
  })

  test('it fits narrow screens, and both schemes have enough contrast', async () => {
    const page = await open()
    for (const [width, scheme] of [
      [320, 'light'],
      [400, 'dark'],
      [1280, 'light'],
      [1280, 'dark'],
    ] as const) {
      await page.resize(width, 900, { 'prefers-color-scheme': scheme, 'prefers-reduced-motion': 'reduce' })
      const overflow = await page.evaluate(
        'document.documentElement.scrollWidth - document.documentElement.clientWidth',
      )
      assert.equal(overflow, 0, `${width} px`)
      const low = await page.evaluate<string[]>(`(${lowContrast})()`)
      assert.deepEqual(low, [], scheme)
      const motion = 'getComputedStyle(document.querySelector(".meter > span")).transitionDuration'
      assert.equal(await page.evaluate(motion), '0s')
    }
  })

  test('an instance that has gone leaves, and one that does not answer is told', async () => {
    const page = await open()
    await page.evaluate('document.querySelector("[aria-label=\'Drain small-3\']").focus()')
    const peers = fleet.apps[0]?.fleet.peers
    Object.assign(fleet.apps[0]?.fleet ?? {}, { peers: () => (peers?.() ?? []).slice(0, 2) })
    await until(() => page.evaluate('document.querySelectorAll("article").length === 2'))
    assert.equal(await text(page, '#news'), 'small-3 has left the fleet')
    assert.equal(await page.evaluate('document.activeElement.tagName'), 'H1')
    await fleet.apps[0]?.close()
    await until(() => page.evaluate('document.body.classList.contains("stale")'))
    assert.match(await text(page, '#freshness'), /^no answer since \d\d:\d\d:\d\d; trying again$/)
  })
}

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
