import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { type App, forkApp } from '../../helpers/fork-app.ts'
import { freePort } from '../../helpers/free-port.ts'
import { sendRequest, Traffic } from '../../helpers/traffic.ts'
import { until } from '../../helpers/until.ts'

const fixture = new URL('./stop.fixture.ts', import.meta.url).pathname

/** Runs a command as a package manager does, and passes each signal on. A process group sends it a second time. */
const wrapper = `
const child = require('node:child_process').spawn(process.execPath, process.argv.slice(1), { stdio: 'inherit' })
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.on('exit', (code) => process.exit(code ?? 1))
`

interface Case {
  stop?: string
  wrapped?: boolean
  signal(app: App): void
  code: number
  prints?: RegExp
}

const cases: Record<string, Case> = {
  'on SIGTERM': { signal: (app) => void process.kill(app.pid, 'SIGTERM'), code: 0 },
  'by a wrapper in its process group, like npm and yarn': {
    wrapped: true,
    signal: (app) => void process.kill(-app.pid, 'SIGINT'),
    code: 0,
  },
  'by its own listener that calls app.close()': {
    stop: 'own',
    signal: (app) => void process.kill(app.pid, 'SIGTERM'),
    code: 0,
    prints: /own work done/,
  },
  'by code that exits before the drain is over': {
    stop: 'impatient',
    signal: (app) => ['SIGTERM', 'SIGTERM'].forEach((signal) => void process.kill(app.pid, signal)),
    code: 1,
    prints: /process.exit\(\) was called during the shutdown/,
  },
}

describe('an app that is stopped under load loses no request', () => {
  for (const [how, { stop, wrapped, signal, code, prints }] of Object.entries(cases)) {
    it(how, async () => {
      const orders = join(temporaryFolder('orders'), 'orders')
      writeFileSync(orders, '')
      const port = await freePort()
      const env = {
        PORT: port,
        FIXTURE_STOP: stop,
        FIXTURE_ORDERS: orders,
        DRAIN_DELAY: 2_000,
        SHUTDOWN_TIMEOUT: 600_000,
      }
      const app = wrapped ? forkApp('-e', { args: [wrapper, fixture], env }) : forkApp(fixture, { env })
      await until(() => sendRequest(port, 'GET', '/'), { what: 'the app' })
      const traffic = new Traffic(port)
      const enough = (more: number): Promise<unknown> => {
        const before = traffic.requests
        return until(() => traffic.requests > before + more, { what: 'requests' })
      }
      await enough(100)
      const slow = [1, 2, 3].map(() => sendRequest(port, 'GET', '/slow'))
      signal(app)
      await enough(100)
      await traffic.halt()
      await Promise.all(slow)
      assert.deepEqual(await app.exit, { code, signal: null })
      // Once the listener is closed, a load balancer sends no request.
      assert.deepEqual(
        traffic.failures.filter((failure) => !failure.includes('ECONNREFUSED')),
        [],
      )
      const done = readFileSync(orders, 'utf8').trim().split('\n')
      assert.equal(new Set(done).size, done.length, 'an order was carried out twice')
      assert.match(app.stdout, /flushed/)
      if (prints) assert.match(app.stdout, prints)
    })
  }
})
