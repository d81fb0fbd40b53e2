import '../../helpers/cleanup.ts'
import assert from 'node:assert/strict'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { openInBrowser } from '../../../src/cli/up/open.ts'

import { isAlive } from '../../helpers/alive.ts'
import { until } from '../../helpers/until.ts'

const link = 'http://127.0.0.1:4001/fleet#code=a.b_c-d'

/** Makes these programs the only ones on PATH. */
function programs(t: TestContext, scripts: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder('programs')
  for (const [name, script] of Object.entries(scripts)) writeFileSync(join(folder, name), script, { mode: 0o755 })
  const { PATH } = process.env
  t.after(() => {
    process.env.PATH = PATH
  })
  process.env.PATH = folder
  return folder
}

// The two seconds for the program are those of a clock that only a test moves, so a busy machine does not exceed them.
describe('fleet up --open', () => {
  for (const [platform, opener] of [
    ['linux', 'xdg-open'],
    ['darwin', 'open'],
  ] as const) {
    it(`opens the link with ${opener}, and does not show it in the arguments`, async (t) => {
      t.mock.timers.enable({ apis: ['setTimeout'] })
      const folder = programs(t, { [opener]: '#!/bin/sh\necho "$@" > "$0.given"\n' })
      assert.equal(await openInBrowser(link, platform), undefined)
      const given = readFileSync(join(folder, `${opener}.given`), 'utf8').trim()
      assert.match(given, /^file:\/\/\S+dashboard\.html$/)
      const file = fileURLToPath(given)
      assert.match(readFileSync(file, 'utf8'), new RegExp(`url=${link}"`))
      assert.equal(statSync(file).mode & 0o777, 0o600)
    })
  }

  it('opens the link by the shell of Windows, whose first argument is a title', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const folder = programs(t, { cmd: '#!/bin/sh\necho "$@" > "$0.given"\n' })
    assert.equal(await openInBrowser(link, 'win32'), undefined)
    assert.match(readFileSync(join(folder, 'cmd.given'), 'utf8'), /^\/c start "" file:\/\/\S+dashboard\.html\n$/)
  })

  it('waits two seconds for the program, which may be the browser', async (t) => {
    const folder = programs(t, { 'xdg-open': '#!/bin/sh\necho $$ > "$0.pid"\nexec /bin/sleep 600\n' })
    t.mock.timers.enable({ apis: ['setTimeout'] })
    let isOpen = false
    const opened = openInBrowser(link, 'linux').then((why) => {
      isOpen = true
      return why
    })
    const pid = Number(await until(() => readFileSync(join(folder, 'xdg-open.pid'), 'utf8').trim()))
    t.after(() => process.kill(pid))
    t.mock.timers.tick(1_999)
    await new Promise(setImmediate)
    assert.equal(isOpen, false)
    t.mock.timers.tick(1)
    assert.equal(await opened, undefined)
    assert.ok(isAlive(pid), 'it is not ended')
  })

  it('says why there is no browser', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const folder = programs(t, {})
    assert.equal(await openInBrowser(link, 'linux'), 'xdg-open is not installed')
    assert.equal(existsSync(join(folder, 'xdg-open.given')), false)
    programs(t, { 'xdg-open': '#!/bin/sh\nexit 3\n' })
    assert.equal(await openInBrowser(link, 'linux'), 'xdg-open ended with 3')
  })
})
