// The pictures of the dashboard in README.md: `npm run screenshot` starts a fleet of the reference application, sends it requests,
// drains an instance, and writes docs/images/dashboard-light.webp and dashboard-dark.webp. dashboard.sha256 is that of the page they show.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { launch, stopAll } from '../src/cli/up/child.ts'
import { launchChromium } from '../test/helpers/chromium.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const [width, height] = [1100, 560]
/** Until the lines of the instances reach from one side to the other, ms. */
const loadMs = 110_000
/** Until a drain shows in the figures, and its message has gone; ms. */
const drainMs = 12_000

/** Of the files that the page is made of. */
export function pageHash() {
  const folder = join(root, 'src/dashboard/assets')
  const hash = createHash('sha256')
  for (const file of readdirSync(folder).filter((name) => name.startsWith('page.')))
    hash.update(readFileSync(join(folder, file)))
  return hash.digest('hex')
}

/** Requests in loops with pauses of random length, so that the figures are not all alike. */
async function visit(url, signal) {
  const paths = ['/', '/api/v1/info', '/live', '/ready']
  for (let i = 0; !signal.aborted; i++) {
    await fetch(url + paths[i % paths.length]).then((response) => response.arrayBuffer())
    await sleep(100 * Math.random())
  }
}

async function capture() {
  const args = ['src/cli/main.ts', 'up', '--front', 'node', '--json', ...process.argv.slice(2)]
  const fleet = launch(process.execPath, args, { cwd: root, env: { FLEET_PORT: '0' }, stopSignal: 'SIGINT' })
  const started = JSON.parse(await fleet.waitFor(/^\{[\s\S]*\}\s*$/, 300_000).then(() => fleet.stdout))
  const done = new AbortController()
  const visits = Promise.all(Array.from({ length: 6 }, () => visit(started.front.url, done.signal)))
  const browser = await launchChromium()
  const page = await browser.newPage({ viewport: { width, height }, reducedMotion: 'reduce' })
  await page.goto(started.dashboard)
  await page.locator('article').nth(2).waitFor()
  await sleep(loadMs)
  await page.getByRole('button', { name: 'Drain' }).last().click()
  await page.getByRole('button', { name: 'Undrain' }).waitFor()
  // The focus ring is of the click.
  await page.evaluate('document.activeElement.blur()')
  await sleep(drainMs)
  const session = await page.context().newCDPSession(page)
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme })
    const { data } = await session.send('Page.captureScreenshot', { format: 'webp', quality: 80 })
    const file = join(root, `docs/images/dashboard-${colorScheme}.webp`)
    writeFileSync(file, Buffer.from(data, 'base64'))
    console.log(file.pathname)
  }
  writeFileSync(join(root, 'docs/images/dashboard.sha256'), `${pageHash()}\n`)
  done.abort()
  await visits
  await browser.close()
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    await capture()
  } finally {
    await stopAll(60_000)
  }
}
