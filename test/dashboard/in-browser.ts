import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { until } from '../helpers/until.ts'
import { type Sample, type SampleServer, serve } from './sample-fleet.ts'

export type Dashboard = Page & {
  /** What the console and the security policy reported. */
  readonly problems: string[]
  readonly server: SampleServer
}

/** Opens the page of a made-up fleet in a context of its own. */
export async function openSample(
  t: TestContext,
  browser: Browser,
  sample: Sample,
  {
    view = 'overview',
    width = 1280,
    prepare,
  }: { view?: string; width?: number; prepare?: (page: Page) => Promise<void> } = {},
): Promise<Dashboard> {
  const server = await serve(sample)
  t.after(() => server.close())
  const page = await browser.newPage({ viewport: { width, height: 800 } })
  t.after(() => page.close())
  const problems = watch(page)
  await prepare?.(page)
  await page.goto(`${server.url}#${view}`)
  await until(async () => (await text(page, '#sentence')) !== 'Waiting for data', { what: 'the first state' })
  return Object.assign(page, { problems, server })
}

export function watch(page: Page): string[] {
  const problems: string[] = []
  page.on('pageerror', (error) => problems.push(error.message))
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') problems.push(message.text())
  })
  return problems
}

/** Of the first element. */
export const text = async (page: Page, selector: string): Promise<string> =>
  (await page.locator(selector).first().textContent()) ?? ''

/** Waits until the text of an element matches. */
export async function untilText(page: Page, selector: string, expected: RegExp | string): Promise<void> {
  const what = `${expected} in ${selector}`
  await until(
    async () => {
      const now = await text(page, selector)
      return typeof expected === 'string' ? now === expected : expected.test(now)
    },
    { what },
  )
}

/** Text of the cells in sight, by row. */
export const rows = (page: Page, table: string): Promise<string[][]> =>
  page.evaluate<string[][]>(
    `[...document.querySelectorAll('${table} tbody tr:not(.space)')].map((row) => [...row.children].map((cell) => cell.textContent))`,
  )

/** Waits for the response after the next one, so that the page has rendered one that started after the call. */
export async function refreshed(page: Page): Promise<void> {
  for (let i = 0; i < 2; i++) await page.waitForResponse((response) => response.url().endsWith('/state'))
}

/** Sets the size of the window, and waits until the page has been laid out and its observers of sizes have run. */
export async function resize(page: Page, width: number, height: number): Promise<void> {
  await page.setViewportSize({ width, height })
  await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))')
}

export const focused = (page: Page): Promise<string | null> =>
  page.evaluate<string | null>(
    'document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent',
  )

/** Asserts that the page fits its width and that every text has the contrast of WCAG 2.2, 1.4.3, in both colour schemes. */
export async function assertReadable(page: Page, what: string): Promise<void> {
  const overflow = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'
  assert.equal(await page.evaluate<number>(overflow), 0, `${what} is wider than the screen`)
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme })
    assert.deepEqual(await page.evaluate<string[]>(`(${lowContrast})()`), [], `${what}, ${colorScheme}`)
  }
}

/** Texts whose contrast with their background is below 4.5 to 1, as the page computes it. */
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
  const texts = [...document.querySelectorAll('body *')].filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  return texts.filter((e) => !e.closest('script, style, svg, option') && e.checkVisibility({ opacityProperty: true })).flatMap((e) => {
    const [a, b] = [luminance(getComputedStyle(e).color), luminance(background(e))].sort((x, y) => y - x)
    const ratio = (a + 0.05) / (b + 0.05)
    return ratio < 4.5 ? [e.textContent + ' ' + ratio.toFixed(2)] : []
  })
}`
