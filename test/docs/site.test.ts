import '../helpers/cleanup.ts'
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Browser, Page } from 'playwright-core'
import { type Child, launch } from '../../src/cli/up/child.ts'
import { launchChromium, missing } from '../helpers/chromium.ts'
import { freePort } from '../helpers/free-port.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = `${root}docs/.vitepress/dist/`
const unbuilt = existsSync(`${folder}index.html`) ? false : 'the site is not built: npm run docs'

test('every anchor of a link in the site exists', { skip: unbuilt }, () => {
  const pages = new Map<string, { ids: Set<string | undefined>; links: { page: string | undefined; id: string }[] }>(
    globSync('**/*.html', { cwd: folder }).map((file) => {
      const html = readFileSync(`${folder}${file}`, 'utf8')
      const ids = new Set([...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id))
      const links = [...html.matchAll(/ href="(\/[^"#]*)?#([^"]+)"/g)].map(([, page, id = '']) => ({ page, id }))
      return [`/${file.replace(/(?:index)?\.html$/, '')}`, { ids, links }] as const
    }),
  )
  assert.ok(pages.size > 80)
  const dead = [...pages].flatMap(([from, { links }]) =>
    links
      .filter(({ page, id }) => !pages.get(page ?? from)?.ids.has(decodeURIComponent(id)))
      .map(({ page, id }) => `${from}: ${page ?? ''}#${id}`),
  )
  assert.deepEqual(dead, [])
})

describe('the documentation site in Chromium', { skip: missing || unbuilt }, () => {
  let server: Child
  let browser: Browser
  let url: string

  before(async () => {
    const port = await freePort()
    url = `http://localhost:${port}`
    server = launch(process.execPath, ['preview.js', '--port', String(port)], { cwd: `${root}docs` })
    await server.waitFor(/localhost/, 60_000)
    browser = await launchChromium()
  })
  after(async () => {
    await browser?.close()
    await server?.stop()
  })

  /** A page that has become interactive, with what the console reported. */
  const open = async (path: string): Promise<Page & { problems: string[] }> => {
    const page = Object.assign(await browser.newPage(), { problems: [] as string[] })
    page.on('pageerror', (error) => page.problems.push(error.message))
    page.on('console', (message) => {
      if (message.type() === 'error') page.problems.push(message.text())
    })
    await page.goto(url + path)
    await page.waitForFunction('document.querySelector("#app").__vue_app__')
    return page
  }
  const search = async (page: Page, words: string): Promise<(string | null)[]> => {
    await page.locator('#local-search button').click()
    await page.locator('.VPLocalSearchBox input').fill(words)
    const results = page.locator('.VPLocalSearchBox a.result')
    await results.first().waitFor()
    const paths: (string | null)[] = []
    for (const result of await results.all()) paths.push(await result.getAttribute('href'))
    return paths
  }

  for (const [words, page] of [
    ['fencing', '/reference/locks'],
    ['FLEET_ERR_STATE_FULL', '/errors'],
    ['blue green deploy', '/deploy'],
  ] as const) {
    test(`a search for "${words}" leads to ${page}`, async () => {
      const tab = await open('/')
      const [first] = await search(tab, words)
      assert.equal(first?.split('#')[0], page)
      await tab.keyboard.press('Enter')
      await tab.waitForURL(`${url}${page}*`)
      assert.deepEqual(tab.problems, [])
    })
  }

  test('shows the version of the package, and a page of the API', async () => {
    const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'))
    const page = await open('/api/locks')
    assert.equal(
      await page
        .locator('h1')
        .textContent()
        .then((text) => text?.trim().split(/\s/)[0]),
      'fastify-fleet/locks',
    )
    assert.match(
      (await page.locator('.VPNavBarMenu').textContent()) ?? '',
      new RegExp(`v${version.replaceAll('.', '\\.')}`),
    )
    assert.deepEqual(page.problems, [])
  })
})
