import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { launch, temporaryFolder } from '../../../src/cli/up/child.ts'
import { findProgram } from '../../../src/cli/up/find.ts'
import { type Program, provide } from '../../../src/cli/up/install.ts'
import { freePort } from '../../helpers/free-port.ts'
import { until } from '../../helpers/until.ts'
import { fleetUp, listens, main, project, withPlugin } from './apps.ts'
import '../../helpers/cleanup.ts'

/** A PATH with the given programs of this machine only. */
function pathOf(...names: string[]): string {
  const folder = temporaryFolder('path')
  for (const name of names) symlinkSync(findProgram([name]) as string, join(folder, name))
  return folder
}

describe('fleet up installs programs only with consent', { concurrency: 2 }, () => {
  const app = { 'app.ts': withPlugin + listens }
  const args = ['app.ts', '--front', 'node']

  test('without a terminal and without --install: names the programs, the commands, and how to do without', async () => {
    const up = await fleetUp(project(app), args, { PATH: pathOf() })
    assert.deepEqual(await up.exit, { code: 1, signal: null })
    assert.match(
      up.stderr,
      /FLEET_ERR_PROGRAM_MISSING .*Redis: not installed; install it with `sudo apt-get install redis-server` or `brew install redis`; or pass `--without redis` to run one instance with its state in memory\n/,
    )
    assert.equal(up.stdout, '')
  })

  test('with --install on a machine that cannot install: one instance with its state in memory', async () => {
    const up = await fleetUp(project(app), [...args, '--install', '--json'], { PATH: pathOf() })
    const report = JSON.parse((await up.waitFor(/^\{.*\}\n/m))[0])
    assert.equal(report.instances.length, 1)
    assert.match(
      report.notes.join(),
      /Redis: it is not installed, and there is no apt-get; .*; without it, one instance/,
    )
    await up.kill('SIGTERM')
  })

  const script = findProgram(['script'])
  const skip = process.platform === 'linux' && script ? false : 'needs `script` of util-linux'
  const skipAsk = skip || (process.getuid?.() === 0 && findProgram(['apt-get']) ? false : 'needs root and apt-get')
  const ask = /Redis: not installed\. Install with `apt-get install redis-server` now\? \[y\/N\]/
  for (const [programs, reply, says] of [
    [['sh', 'apt-get'], 'y', /apt-get (?:installed it, but it was not found|failed)/],
    [['sh', 'apt-get'], 'n', /FLEET_ERR_PROGRAM_MISSING .*, or let `--install` do it; or pass `--without redis`/],
    [['sh', 'apt-get'], '', /FLEET_ERR_PROGRAM_MISSING/],
    [['sh'], undefined, /FLEET_ERR_PROGRAM_MISSING/],
  ] as const) {
    const title = reply === undefined ? 'does not ask without apt-get' : `asks; the reply is ${JSON.stringify(reply)}`
    test(`on a terminal: ${title}`, { skip: reply === undefined ? skip : skipAsk }, async () => {
      const command = [process.execPath, main, 'up', ...args].join(' ')
      const pipe = join(temporaryFolder('reply'), 'stdin')
      execFileSync('mkfifo', [pipe])
      const env = {
        PATH: pathOf(...programs),
        SHELL: '/bin/sh',
        FLEET_PORT: String(await freePort()),
        FLEET_BASE_PORT: String(await freePort(3)),
        REDIS_URL: undefined,
        DATABASE_URL: undefined,
      }
      // A pipe that stays open: `script` ends when its input does.
      const line = `exec 3<>${pipe}; exec ${script} -qefc '${command}' /dev/null <${pipe}`
      const terminal = launch('/bin/sh', ['-c', line], { cwd: project(app), env })
      if (reply !== undefined) {
        await terminal.waitFor(ask)
        writeFileSync(pipe, `${reply}\n`)
      }
      await terminal.waitFor(says)
      if (reply === undefined) assert.doesNotMatch(terminal.stdout, /\[y\/N\]/)
      await terminal.stop()
    })
  }
})

const canInstall = process.getuid?.() === 0 && findProgram(['dpkg-deb']) && findProgram(['apt-get'])

describe('an installation leaves the machine alone', { skip: canInstall ? false : 'needs root and apt-get' }, () => {
  const name = `fleet-test-${process.pid}`
  const proof = join(temporaryFolder('proof'), 'environment')
  after(() => launch('dpkg', ['--purge', name], { uninterrupted: true }).exit)

  test('starts no service, and writes no policy-rc.d even while it runs', async () => {
    const folder = temporaryFolder('package')
    mkdirSync(join(folder, 'DEBIAN'))
    mkdirSync(join(folder, 'usr/bin'), { recursive: true })
    writeFileSync(join(folder, 'usr/bin', name), '#!/bin/sh\n', { mode: 0o755 })
    const control = { Package: name, Version: '1', Architecture: 'all', Maintainer: 'test', Description: 'test' }
    const fields = Object.entries(control).map(([field, value]) => `${field}: ${value}\n`)
    writeFileSync(join(folder, 'DEBIAN/control'), fields.join(''))
    const postinst = `#!/bin/sh\nenv > ${proof}.new\ncat /usr/sbin/policy-rc.d > ${proof}.policy 2>/dev/null\nmv ${proof}.new ${proof}\n`
    writeFileSync(join(folder, 'DEBIAN/postinst'), postinst, { mode: 0o755 })
    const file = `${folder}.deb`
    execFileSync('dpkg-deb', ['--build', folder, file], { stdio: 'ignore' })

    const policy = '/usr/sbin/policy-rc.d'
    const before = existsSync(policy) ? readFileSync(policy, 'utf8') : ''
    const program: Program = { title: 'Test', names: [name], apt: [file], brew: name }
    assert.equal(await provide(program), `/usr/bin/${name}`)
    await until(() => existsSync(proof))
    assert.equal(readFileSync(`${proof}.policy`, 'utf8'), before)
    assert.equal(existsSync(policy) ? readFileSync(policy, 'utf8') : '', before)
    // systemctl contacts no service manager with the first; invoke-rc.d starts nothing at run level 1.
    assert.match(readFileSync(proof, 'utf8'), /^SYSTEMD_OFFLINE=1$/m)
    assert.match(readFileSync(proof, 'utf8'), /^RUNLEVEL=1$/m)
  })
})
