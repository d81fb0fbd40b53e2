import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { freePort } from '../helpers/free-port.ts'
import { packed } from '../helpers/packed.ts'
import { until } from '../helpers/until.ts'
import { examples } from './installed.ts'
import { cookieOf } from './requests.ts'

const run = async (command: string, args: readonly string[], options = {}): Promise<string> =>
  (await promisify(execFile)(command, args, { maxBuffer: 1 << 26, ...options })).stdout

/** Why the containers cannot be run here; `undefined` if they can. */
async function reason(): Promise<string | undefined> {
  try {
    await run('docker', ['compose', 'version'])
    await run('docker', ['info'])
  } catch {
    return 'Docker with compose is not running here'
  }
  for (const image of ['node:24-slim', 'redis:8'])
    try {
      await run('docker', ['image', 'inspect', image]).catch(() => run('docker', ['pull', '--quiet', image]))
    } catch {
      return `the image ${image} is not here and cannot be pulled`
    }
}

describe('examples/compose in containers', { skip: (await reason()) ?? false }, () => {
  const folder = temporaryFolder('compose')
  // Beside other fleets on this machine.
  const project = `fleet-example-${process.pid}`
  let url: string
  const compose = (...args: string[]): Promise<string> =>
    run('docker', ['compose', '-p', project, ...args], {
      cwd: folder,
      env: { ...process.env, PORT: new URL(url).port },
    })

  before(async () => {
    url = `http://127.0.0.1:${await freePort()}`
    cpSync(join(examples, 'compose'), folder, { recursive: true })
    cpSync(await packed(), join(folder, 'fastify-fleet.tgz'))
    const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
    manifest.dependencies['fastify-fleet'] = 'file:fastify-fleet.tgz'
    writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest))
    writeFileSync(join(folder, '.env'), 'SESSION_SECRET=a secret for tests of more than 32 bytes\n')
    await compose('up', '-d', '--build', '--wait', '--wait-timeout', '240')
  })
  after(() => compose('down', '--volumes', '--rmi', 'local', '--timeout', '10'))

  it('all instances know the session', async () => {
    let cookie = ''
    const instances = new Set<string>()
    for (let visits = 1; visits <= 6; visits++) {
      const response = await fetch(url, { headers: { cookie } })
      cookie = cookieOf(response) || cookie
      const body = await response.json()
      assert.equal(body.visits, visits)
      instances.add(body.servedBy)
    }
    assert.equal(instances.size, 3)
  })

  it('restarting an instance loses no request, and its successor gets requests', async () => {
    let done = false
    const served = new Set<string>()
    const requests = (async () => {
      while (!done) {
        const response = await fetch(url)
        assert.equal(response.status, 200)
        served.add((await response.json()).servedBy)
      }
    })()
    const [container = ''] = (await compose('ps', '-q', 'app')).trim().split('\n')
    const restarted = run('docker', ['restart', container])
    await Promise.all([restarted, Promise.race([requests, until(() => served.size === 4)])])
    done = true
    await requests
  })
})
