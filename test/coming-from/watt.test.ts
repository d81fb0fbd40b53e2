import assert from 'node:assert/strict'
import { cpSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { launch } from '../../src/cli/up/child.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { outcome } from './outcome.ts'
import { filesOf, Project, secret, tableOf } from './pages.ts'

// wattpm installs 146 MiB and starts in 12 s, so this runs only on request: TEST_WATT=1 node --test test/coming-from/watt.test.ts
const skip = process.env.TEST_WATT ? false : 'installs wattpm, 146 MiB; set TEST_WATT=1'

test('Watt: the plugin drains in Watt as it does without', { skip }, async () => {
  const project = await Project.with(['wattpm@3', '@platformatic/node@3'])
  const { url } = await startRedis()
  const folder = project.write('watt.md')
  // The files that the page leaves as they are.
  cpSync(`${folder}/before`, `${folder}/after`, { recursive: true, force: false })
  const announce = (name: string): void => {
    const code = filesOf('watt.md')[name] ?? ''
    writeFileSync(`${folder}/${name}`, code.replace('=> sleep(', "=> console.log('in flight') ?? sleep("))
  }
  for (const name of ['before/shop/app.js', 'after/shop/app.js', 'alone.js']) announce(name)
  const watt = `${project.folder}/node_modules/wattpm/bin/cli.js`
  const cli = new URL('../../src/cli/main.ts', import.meta.url).pathname

  async function stop(cwd: string, ...args: string[]): Promise<string[]> {
    const port = await freePort()
    const env = { PORT: `${port}`, REDIS_URL: url, SESSION_SECRET: secret, JWT_SECRET: secret, NODE_ENV: 'production' }
    const program = launch(process.execPath, args, { cwd, env: { ...env, NODE_OPTIONS: project.hooks } })
    // A program that is told to stop while it starts does something else than the page says.
    const isUp = (): boolean => /now listening|worker ready.*worker ready/s.test(program.stdout)
    await until(() => isUp() || program.ended, { what: 'the start' })
    await until(async () => (await outcome(port, '/'))[0] === '200', { what: 'a response' })
    const ready = async (): Promise<string> => (await outcome(port, '/ready'))[0]
    const before = await ready()
    const slow = outcome(port, '/slow')
    await until(() => program.stdout.includes('in flight'))
    process.kill(program.pid, 'SIGTERM')
    await until(async () => (await ready()) !== before)
    const [fresh] = await outcome(port, '/')
    const readiness = before === '404' ? 'none' : await ready()
    const [inFlight] = await slow
    const { code, signal } = await program.exit
    return [fresh, readiness, inFlight, `${code ?? signal}`]
  }

  const columns = [
    await stop(`${folder}/before`, watt, 'start'),
    await stop(`${folder}/after`, watt, 'start'),
    await stop(folder, cli, 'start', 'alone.js', '--workers', '2'),
  ]
  const rows = tableOf('watt.md', 'What differs')
  for (const [i, column] of columns.entries())
    assert.deepEqual(
      column,
      rows.map((row) => row[i + 1]),
    )
})
