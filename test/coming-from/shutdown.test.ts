import assert from 'node:assert/strict'
import { Agent } from 'node:http'
import { describe, it } from 'node:test'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'
import { outcome } from './outcome.ts'
import { filesOf, Project, tableOf } from './pages.ts'

const page = 'graceful-shutdown.md'

const project = await Project.with(['close-with-grace@2', '@godaddy/terminus@4', 'lightship@9'])

describe('the page about a graceful shutdown', { concurrency: 4 }, () => {
  /** Starts an app, sends SIGTERM with a request in flight, and returns what clients see. */
  async function stop(name: string, from = '', to = '') {
    const code = (filesOf(page)[name] ?? '').replace(from, to)
    const folder = project.write(page, { [name]: code.replace('=> sleep(', "=> console.log('in flight') ?? sleep(") })
    const ownPort = await freePort()
    const env = { LIGHTSHIP_PORT: `${ownPort}`, NODE_ENV: 'production', FLEET_ALLOW_MEMORY: '1' }
    const { app, port } = await project.start(`${folder}/${name}`, env)
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const ready = async (): Promise<string> => (await outcome(name === 'lightship.js' ? ownPort : port, '/ready'))[0]
    await outcome(port, '/', agent)
    const before = await ready()
    const slow = outcome(port, '/slow')
    await until(() => app.stdout.includes('in flight'))
    process.kill(app.pid, 'SIGTERM')
    await until(async () => (await ready()) !== before || (await outcome(port, '/'))[0] === 'refused')
    const [fresh] = await outcome(port, '/')
    const [kept, connection] = await outcome(port, '/', agent)
    const readiness = before === '404' ? 'none' : await ready()
    const [inFlight] = await slow
    const { code: exitCode, signal } = await app.exit
    agent.destroy()
    return { rows: [fresh, kept, readiness, inFlight, `${exitCode ?? signal}`], connection }
  }

  const columns = ['close-with-grace.js', 'terminus.js', 'lightship.js', 'after.js']
  for (const [column, name] of columns.entries())
    it(`has the outcomes of ${name}`, async () => {
      const { rows, connection } = await stop(name)
      const documented = tableOf(page, 'What differs').map((row) => row[column + 1])
      assert.deepEqual(rows, documented)
      assert.equal(connection, name === 'after.js' ? 'close' : undefined)
    })

  const withDelay = {
    'terminus.js': ['onSignal', 'beforeShutdown: () => sleep(4000), timeout: 30_000, onSignal'],
    'lightship.js': [
      'createLightship()',
      'createLightship({ detectKubernetes: false, port: Number(process.env.LIGHTSHIP_PORT), shutdownDelay: 4000 })',
    ],
  } as const
  for (const [name, [from, to]] of Object.entries(withDelay))
    it(`${name} with a delay serves on, and does not close kept-alive connections`, async () => {
      const { rows, connection } = await stop(name, from, to)
      const [fresh, kept, , inFlight] = rows
      assert.deepEqual([fresh, kept, inFlight, connection], ['200', '200', '200', 'keep-alive'])
    })
})
