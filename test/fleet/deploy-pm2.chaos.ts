import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Child, launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { freePort } from '../helpers/free-port.ts'
import { sendRequest, Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { fleetCommand, Release } from '../host/group.ts'

const pm2Folder = dirname(createRequire(import.meta.url).resolve('pm2/package.json'))
const shipped = new URL('../../ecosystem.config.cjs', import.meta.url).pathname

describe('fleet deploy with pm2', { timeout: 300_000 }, () => {
  const release = new Release('1')
  const config = join(release.folder, 'ecosystem.config.cjs')
  // Restores the previous build: here a copy of its file.
  const kept = join(release.folder, 'kept.ts')
  const env = {
    PM2_HOME: temporaryFolder('pm2'),
    PM2_DISCRETE_MODE: 'true',
    PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}`,
    FLEET_VERSION: '1',
  }
  let daemon: Child
  let port: number

  before(async () => {
    port = await freePort()
    const change = { script: release.file, instances: 2 }
    writeFileSync(
      config,
      `const [app] = require(${JSON.stringify(shipped)}).apps
      module.exports = { apps: [{ ...app, ...${JSON.stringify(change)}, env: { ...app.env, PORT: ${port}, FLEET_READY_TIMEOUT: 10000, FLEET_VERSION: process.env.FLEET_VERSION } }] }`,
    )
    daemon = launch(process.execPath, [join(pm2Folder, 'lib/Daemon.js')], {
      env: { ...env, NODE_TEST_CONTEXT: undefined },
    })
    await until(() => existsSync(join(env.PM2_HOME, 'rpc.sock')), { what: 'the daemon' })
    const start = pm2('start', config)
    assert.equal((await start.exit).code, 0, start.stdout + start.stderr)
    await until(() => version(), { what: 'a response' })
  })
  after(async () => {
    await pm2('kill').exit
    await daemon?.exit
  })

  const pm2 = (...args: string[]): Child =>
    launch(process.execPath, [join(pm2Folder, 'bin/pm2'), ...args], { env: { ...env, NODE_TEST_CONTEXT: undefined } })
  const version = async (): Promise<unknown> =>
    ((await (await fetch(`http://127.0.0.1:${port}/ready`)).json()) as { version: string }).version
  const deploy = (to: string, ...more: string[]): Child =>
    fleetCommand(
      [
        ...['deploy', 'rolling', '--front', 'pm2', release.file, '--version', to, '--config', config],
        ...['--pm2', `${process.execPath} ${join(pm2Folder, 'bin/pm2')}`, '--url', `http://127.0.0.1:${port}`],
        ...more,
      ],
      env,
    )

  test('replaces every process without a failed request', async (t) => {
    const traffic = new Traffic(port, 4)
    t.after(() => traffic.halt())
    release.deploy({ version: '2' })
    const run = deploy('2')
    assert.equal((await run.exit).code, 0, run.stderr)
    assert.equal(await version(), '2')
    assert.equal((await sendRequest(port, 'GET', '/')).version, '2')
    await traffic.stop(release.orders)
  })

  test('rejects a bad build before pm2 reloads', async (t) => {
    const traffic = new Traffic(port, 4)
    t.after(() => traffic.halt())
    release.write('throw new Error("a bad build")')
    const run = deploy('3')
    assert.equal((await run.exit).code, 1, run.stderr)
    assert.match(run.stderr, /FLEET_ERR_DEPLOY_FAILED.*check/)
    release.deploy({ version: '2' })
    assert.equal(await version(), '2')
    await traffic.stop(release.orders)
  })

  test('rolls back a build that passes the check but reports another version', async (t) => {
    release.deploy({ version: '2' })
    const traffic = new Traffic(port, 4)
    t.after(() => traffic.halt())
    // It reports another version than the given one.
    release.write(`process.env.FLEET_VERSION = 'another'
const { serve } = await import(${JSON.stringify(new URL('../host/fixtures/app.ts', import.meta.url).pathname)})
await serve({ version: '3', orders: ${JSON.stringify(release.orders)} })
`)
    const good = new Release('2')
    good.deploy({ version: '2', orders: release.orders })
    const restore = `sh -c 'cp ${good.file} ${kept} && mv ${kept} ${release.file}'`
    const run = deploy('3', '--restore', restore, '--timeout', '20000')
    assert.equal((await run.exit).code, 1, run.stderr)
    assert.match(run.stderr, /FLEET_ERR_DEPLOY_FAILED.*not ready as version 3/)
    assert.equal((await sendRequest(port, 'GET', '/')).version, '2')
    assert.equal(await version(), '2')
    await traffic.stop(release.orders)
  })
})
