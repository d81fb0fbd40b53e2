import { type Browser, chromium } from 'playwright-core'
import { FleetError } from '../../src/base/errors.ts'
import { type Program, provide } from '../../src/cli/up/install.ts'

const program: Program = {
  title: 'Chromium',
  names: ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'Chromium', 'Google Chrome'],
  folders: ['/Applications/Chromium.app/Contents/MacOS', '/Applications/Google Chrome.app/Contents/MacOS'],
  // Debian's package only recommends fonts, and without fonts a page has no text to measure.
  apt: ['chromium', 'fonts-liberation'],
  brew: '--cask chromium',
}

const found = await provide(program).catch((error: unknown) => {
  if (error instanceof FleetError && error.code === 'FLEET_ERR_PROGRAM_MISSING') return error
  throw error
})

/** Reason for `skip` when no browser can run here, else `false`. */
export const missing: string | false = typeof found === 'string' ? false : found.message

/**
 * Features of Chromium that are off. Playwright turns off all but the last two, and of two lists Chromium obeys only the last.
 * Those two load the menu of the address bar, which nobody sees, with each window: more work than most pages of the tests.
 */
const off = [
  ...['AvoidUnnecessaryBeforeUnloadCheckSync', 'DestroyProfileOnBrowserClose', 'HttpsUpgrades', 'LensOverlay'],
  ...['HttpsFirstBalancedModeAutoEnable', 'MediaRouter', 'PaintHolding', 'ThirdPartyStoragePartitioning', 'AimEnabled'],
  ...['AvoidCorsURLLoaderRestartOnRedirect', 'OptimizationHints', 'NetworkTimeServiceQuerying', 'PreconnectToSearch'],
  ...['WebUIOmniboxPopup', 'WebUIOmniboxAimPopup'],
]

/** Starts a headless Chromium, which the caller closes. */
export function launchChromium(): Promise<Browser> {
  if (typeof found !== 'string') throw found
  return chromium.launch({ executablePath: found, args: [`--disable-features=${off.join()}`] })
}
