// The pictures of the dashboard: `npm run screenshot` shows the page the states of test/dashboard/scenarios.ts in Chromium and writes
// docs/images/dashboard-*.webp. `npm run screenshot -- killed` writes those whose name contains a word. dashboard.sha256 is that of the page
// they show.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { serve } from '../test/dashboard/sample-fleet.ts'
import { scenarios } from '../test/dashboard/scenarios.ts'
import { launchChromium } from '../test/helpers/chromium.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const at = Date.parse('2026-11-29T15:04:20Z')
const [wide, low, narrow] = [
  { width: 1280, height: 800 },
  { width: 1280, height: 640 },
  { width: 390, height: 760 },
]

/** Name of the picture, its scenario, view and scheme. README has `light` and `dark`. */
export const pictures = [
  { name: 'light', scenario: 'draining' },
  { name: 'dark', scenario: 'draining', scheme: 'dark' },
  { name: 'healthy' },
  { name: 'killed' },
  { name: 'killed-instances', scenario: 'killed', view: 'instances', scheme: 'dark' },
  { name: 'draining', view: 'instances' },
  { name: 'none-serving' },
  { name: 'redis-down' },
  { name: 'redis-down-dependencies', scenario: 'redis-down', view: 'dependencies', scheme: 'dark' },
  { name: '200', view: 'instances', viewport: low },
  { name: '1000', view: 'instances', scheme: 'dark', viewport: low },
  { name: 'empty' },
  { name: 'error' },
  { name: 'timeline', scenario: 'canary', view: 'timeline' },
  { name: 'routes', scenario: 'healthy', view: 'routes' },
  { name: 'dependencies', scenario: 'healthy', view: 'dependencies' },
  { name: 'deploy', scenario: 'canary', view: 'deploy' },
  { name: 'narrow', scenario: 'killed', viewport: narrow },
]

/** What a view shows once its data are there. */
const filled = {
  overview: '#charts .line[d^=M]',
  instances: '#instance-table tbody tr',
  timeline: '#days li',
  routes: '#route-table tbody tr',
  dependencies: '#dependency-redis .state',
  deploy: '#deploy-steps li',
}

/** Of the files that the page is made of. */
export function pageHash() {
  const folder = join(root, 'src/dashboard/assets')
  const hash = createHash('sha256')
  for (const file of readdirSync(folder).sort()) {
    if (!file.startsWith('sign-in')) hash.update(readFileSync(join(folder, file)))
  }
  return hash.digest('hex')
}

async function capture(browser, { name, scenario = name, view = 'overview', scheme = 'light', viewport = wide }) {
  const sample = scenarios[scenario](at)
  const server = await serve(sample, 1000)
  const page = await browser.newPage({ viewport, colorScheme: scheme, reducedMotion: 'reduce', timezoneId: 'UTC' })
  await page.clock.setFixedTime(at)
  await page.goto(`${server.url}#${view}`)
  const isEmpty = view === 'overview' && (sample.failing.has('history') || scenario === 'empty')
  await page
    .locator(isEmpty ? '.plot .empty:visible' : filled[view])
    .first()
    .waitFor({ state: 'attached' })
  await page.waitForLoadState('networkidle')
  if (scenario === 'error') {
    sample.failing.set('state', 503)
    await page.locator('body.stale').waitFor()
  }
  const session = await page.context().newCDPSession(page)
  const { data } = await session.send('Page.captureScreenshot', { format: 'webp', quality: 55 })
  const file = join(root, `docs/images/dashboard-${name}.webp`)
  writeFileSync(file, Buffer.from(data, 'base64'))
  console.log(`docs/images/dashboard-${name}.webp`, statSync(file).size)
  await page.close()
  await server.close()
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const browser = await launchChromium()
  try {
    const words = process.argv.slice(2)
    for (const picture of pictures) {
      if (words.length === 0 || words.some((word) => picture.name.includes(word))) await capture(browser, picture)
    }
    if (words.length === 0) writeFileSync(join(root, 'docs/images/dashboard.sha256'), `${pageHash()}\n`)
  } finally {
    await browser.close()
  }
}
