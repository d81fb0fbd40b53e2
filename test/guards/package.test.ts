import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { startRedis } from '../helpers/redis.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** npm's installation beside this Node, because a test run without npm has no npm_execpath. */
const npm = (args: string[], cwd: string): string =>
  execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

describe('the packed package', () => {
  const project = temporaryFolder('package')

  before(() => {
    // The scripts that `npm pack` runs, except `prepare`: it rewrites the reference application's Prisma client, which
    // other tests use meanwhile.
    npm(['run', '--silent', 'prepack'], root)
    const packed = npm(['pack', '--silent', '--ignore-scripts', '--pack-destination', project], root).trim()
    writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'shop', private: true, type: 'module' }))
    const { fastify, '@types/node': types } = manifest.devDependencies
    const wanted = [`./${packed}`, `fastify@${fastify}`, `@types/node@${types}`]
    npm(['install', '--prefer-offline', '--no-audit', '--no-fund', ...wanted], project)
  })

  it('has a file and a declaration for every export', () => {
    const installed = join(project, 'node_modules', 'fastify-fleet')
    for (const [name, target] of Object.entries<Record<string, string> | string>(manifest.exports)) {
      for (const file of typeof target === 'string' ? [target] : Object.values(target)) {
        assert.ok(existsSync(join(installed, file)), `${name}: ${file}`)
      }
    }
    assert.ok(existsSync(join(installed, manifest.bin.fleet)))
    assert.ok(!readdirSync(join(installed, 'dist')).includes('app'))
  })

  it('has the assets of the dashboard', () => {
    const folder = join('dashboard', 'assets')
    const packed = readdirSync(join(project, 'node_modules', 'fastify-fleet', 'dist', folder))
    assert.deepEqual(packed.sort(), readdirSync(join(root, 'src', folder)).sort())
  })

  it('copies the assets of the dashboard into the image', () => {
    assert.match(
      readFileSync(join(root, 'Dockerfile'), 'utf8'),
      /cp -R src\/dashboard\/assets \/image\/src\/dashboard\//,
    )
  })

  it('contains its bill of materials and the security policy', () => {
    const installed = join(project, 'node_modules', 'fastify-fleet')
    const bom = JSON.parse(readFileSync(join(installed, 'sbom.cdx.json'), 'utf8'))
    assert.equal(bom.metadata.component.version, manifest.version)
    assert.ok(existsSync(join(installed, 'SECURITY.md')))
  })

  it('loads every export without an optional dependency', () => {
    const names = Object.keys(manifest.exports).filter((name) => name !== './package.json')
    const script = names.map((name) => `await import('fastify-fleet${name.slice(1)}')`).join('\n')
    writeFileSync(join(project, 'load.js'), script)
    execFileSync(process.execPath, ['load.js'], { cwd: project })
    for (const optional of Object.keys(manifest.peerDependenciesMeta)) {
      assert.ok(!existsSync(join(project, 'node_modules', optional)), `${optional} was installed`)
    }
  })

  it('ejects every advertised kit', () => {
    const fleet = join(project, 'node_modules', '.bin', 'fleet')
    const kits = ['nginx', 'haproxy', 'compose', 'pm2', 'kubernetes', 'aws', 'cloudflare', 'observability', 'systemd']
    for (const kit of kits) {
      const args = ['eject', kit, join(project, 'ejected', kit), '--name', 'shop', '--json']
      const { ejected } = JSON.parse(execFileSync(fleet, args, { encoding: 'utf8' }))
      assert.ok(ejected.length > 0, kit)
      for (const file of ejected) assert.ok(existsSync(join(project, 'ejected', kit, file)), file)
    }
    execFileSync(fleet, ['doctor', join(project, 'ejected')], { stdio: 'pipe' })
  })

  const example = /```ts\n(import Fastify[\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1] ?? ''

  it('type-checks the README’s example as written', () => {
    assert.ok(example.includes('register(fleet'))
    writeFileSync(join(project, 'app.ts'), example)
    const options = { strict: true, module: 'nodenext', target: 'es2024', noEmit: true, types: ['node'] }
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['app.ts'] }))
    execFileSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', '.', '--singleThreaded'], {
      cwd: project,
      stdio: 'pipe',
    })
  })

  /** Two visits with one cookie; the second may reach another process. */
  async function visits(env: Record<string, string | undefined>, copies: number): Promise<number[]> {
    writeFileSync(join(project, 'app.ts'), example)
    const apps = Array.from({ length: copies }, () =>
      forkApp(join(project, 'app.ts'), { env: { PORT: '0', ...env }, cwd: project }),
    )
    const seen: number[] = []
    let cookie = ''
    for (const app of apps) {
      const [, port] = await app.waitFor(/listening at http:\/\/127\.0\.0\.1:(\d+)/)
      const response = await fetch(`http://127.0.0.1:${port}/`, { headers: cookie ? { cookie } : {} })
      cookie = response.headers.get('set-cookie')?.split(';')[0] ?? cookie
      seen.push(((await response.json()) as { visits: number }).visits)
    }
    for (const app of apps) {
      await app.kill('SIGTERM')
      assert.deepEqual(app.ended, { code: 0, signal: null })
    }
    return seen
  }

  it('runs the README’s example without any server', async () => {
    assert.deepEqual(await visits({ REDIS_URL: undefined }, 1), [1])
  })

  it('runs the README’s example with Redis, where two processes share the session', async (t) => {
    const redis = await startRedis()
    t.after(() => redis.stop())
    assert.deepEqual(await visits({ REDIS_URL: redis.url }, 2), [1, 2])
  })
})
