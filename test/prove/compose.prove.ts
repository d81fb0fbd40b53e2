import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Report } from '../../src/cli/smoke/report.ts'
import { launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { freePort } from '../helpers/free-port.ts'
import { proveInParts } from './parts.ts'
import { type Proof, prove } from './prove.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** The line of JSON that test/fleet/steady-load.ts prints, with what happened meanwhile. */
interface Load {
  what: string
  gets: number
  posts: number
  failedGets: number
  failedPosts: number
}

/** Skips where the images of the compose file cannot be used. */
async function needsDocker(proof: Proof): Promise<void> {
  try {
    await promisify(execFile)('docker', ['compose', 'version'])
    await promisify(execFile)('docker', ['info'])
  } catch {
    proof.skip('Docker with compose is not running here')
  }
}

/** Runs one of the scripts of CI, and counts its load. Only in `kill -9` may POSTs fail, as many as were in flight; the script checks that. */
async function runScript(proof: Proof, script: string, env: Record<string, string> = {}): Promise<void> {
  await needsDocker(proof)
  const loads = join(temporaryFolder('loads'), 'loads.jsonl')
  const run = launch(join(root, script), [], { cwd: root, env: { NODE_TEST_CONTEXT: undefined, LOADS: loads, ...env } })
  const { code } = await run.exit
  assert.equal(code, 0, `${run.stdout.slice(-20_000)}\n${run.stderr.slice(-20_000)}`)
  for (const line of readFileSync(loads, 'utf8').trim().split('\n')) {
    const { what, gets, posts, failedGets, failedPosts } = JSON.parse(line) as Load
    proof.count({
      requests: gets + posts,
      failed: failedGets,
      [what.startsWith('kill -9') ? 'inFlight' : 'failed']: failedPosts,
    })
  }
  const [, passed] = /^(\d+) passed, 0 failed$/m.exec(run.stdout) ?? []
  proof.count({ twice: 0, checks: Number(passed) })
}

// CI runs both scripts by themselves.
proveInParts(
  'compose: restarts, scaling, a deploy and a kill under load through nginx, HAProxy and the built-in load balancer',
  'compose-restart',
  { quick: 0, full: 5, parts: 4 },
  (proof, rounds) => runScript(proof, 'scripts/test-compose', { ROUNDS: String(rounds) }),
  { fullOnly: true },
)

prove(
  'swarm: an update, two broken builds and scaling under load',
  'swarm-update',
  (proof) => runScript(proof, 'scripts/test-swarm'),
  { fullOnly: true },
)

prove(
  'compose: an app with the ejected files starts and passes fleet test',
  'eject-compose',
  async (proof) => {
    await needsDocker(proof)
    const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    const example = /```ts\n(import Fastify[\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1] ?? ''
    const project = temporaryFolder('own')
    const run = async (command: string, args: readonly string[], env: Record<string, string> = {}): Promise<string> => {
      const options = { cwd: project, env: { ...process.env, NODE_TEST_CONTEXT: '', ...env }, maxBuffer: 1 << 26 }
      return (await promisify(execFile)(command, args, options)).stdout
    }
    const packed = (await run('npm', ['pack', '--silent', '--pack-destination', project, root]))
      .trim()
      .split('\n')
      .at(-1)
    const manifest = {
      name: 'shop',
      private: true,
      type: 'module',
      dependencies: { fastify: devDependencies.fastify, 'fastify-fleet': `file:${packed}` },
    }
    writeFileSync(join(project, 'package.json'), JSON.stringify(manifest))
    writeFileSync(join(project, 'app.ts'), example)
    await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund'])
    await run('npx', ['fleet', 'eject', 'compose'])

    // Beside other fleets on this machine.
    const port = String(await freePort())
    const env = { FLEET_PORT: port, COMPOSE_PROJECT_NAME: `fleet-eject-${process.pid}` }
    const compose = (...args: string[]): Promise<string> =>
      run('docker', ['compose', '-f', 'docker-compose.loadbalancer.yml', ...args], env)
    proof.t.after(async () => {
      await compose('down', '--volumes', '--remove-orphans', '--timeout', '10')
      await run('docker', ['image', 'rm', '--force', 'shop:local'])
    })
    await compose('up', '-d', '--build', '--wait', '--wait-timeout', '180')
    const report = JSON.parse(await run('npx', ['fleet', 'test', `http://127.0.0.1:${port}`, '--json'])) as Report
    assert.deepEqual(
      report.findings.filter(({ status }) => status === 'fail'),
      [],
    )
    proof.count({ checks: report.findings.filter(({ status }) => status === 'pass').length, failed: 0 })
  },
  { fullOnly: true },
)
