import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { freePort } from '../helpers/free-port.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const example = /```ts\n(import Fastify[\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1] ?? ''

it('an ejected app started by compose passes fleet test', async (t) => {
  const project = mkdtempSync(join(tmpdir(), 'fleet-own-'))
  const run = (command: string, args: readonly string[], env: Record<string, string> = {}): string =>
    execFileSync(command, args, {
      cwd: project,
      encoding: 'utf8',
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })

  // FLEET_TEST_PACKAGE: a package that is packed already.
  const packed = process.env.FLEET_TEST_PACKAGE ?? join(project, pack(project))
  if (process.env.FLEET_TEST_PACKAGE) run('cp', [packed, project])
  const name = packed.split('/').at(-1)
  const manifest = {
    name: 'shop',
    private: true,
    type: 'module',
    dependencies: { fastify: devDependencies.fastify, 'fastify-fleet': `file:${name}` },
  }
  writeFileSync(join(project, 'package.json'), JSON.stringify(manifest))
  writeFileSync(join(project, 'app.ts'), example)
  run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund'])

  run('npx', ['fleet', 'eject', 'compose'])
  // Beside other fleets on this machine.
  const port = await freePort()
  const name2 = `fleet-eject-${process.pid}`
  const env = { FLEET_PORT: String(port), COMPOSE_PROJECT_NAME: name2 }
  const compose = (...args: string[]): string =>
    run('docker', ['compose', '-f', 'docker-compose.loadbalancer.yml', ...args], env)
  t.after(() => {
    compose('down', '--volumes', '--remove-orphans', '--timeout', '10')
    run('docker', ['image', 'rm', '--force', 'shop:local'])
    rmSync(project, { recursive: true, force: true })
  })
  compose('up', '-d', '--build', '--wait', '--wait-timeout', '180')
  const report = run('npx', ['fleet', 'test', `http://127.0.0.1:${port}`])
  assert.match(report, /pass/i)
  console.log(report)
})

function pack(folder: string): string {
  const said = execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: root, encoding: 'utf8' })
  return said.trim().split('\n').at(-1) ?? ''
}
