import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { oneThread, rareCollection } from '../helpers/compiler.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { npm, packed } from '../helpers/packed.ts'
import { startRedis } from '../helpers/redis.ts'
import { patientEnv } from '../state/redis/patience.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** Whether `link` of a page leads to a file and, in a page, to a heading. */
function resolves(page: string, link: string): boolean {
  const [path = '', anchor] = link.split('#')
  const file = path === '' ? page : join(dirname(page), path)
  if (!existsSync(file)) return false
  if (anchor === undefined || !file.endsWith('.md')) return true
  const headings = [...readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  )
  return headings.includes(anchor)
}

describe('the packed package', () => {
  const project = temporaryFolder('package')
  const installed = join(project, 'node_modules', 'fastify-fleet')
  let warnings = ''

  before(async () => {
    const tarball = await packed()
    writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'shop', private: true, type: 'module' }))
    const { fastify, '@types/node': types } = manifest.devDependencies
    const wanted = [tarball, `fastify@${fastify}`, `@types/node@${types}`]
    warnings = (await npm(['install', '--prefer-offline', '--no-audit', '--no-fund', ...wanted], project)).stderr
  })

  it('installs without a warning, and runs no script of its own', () => {
    assert.equal(warnings, '')
    const scripts = Object.keys(manifest.scripts)
    const run = ['preinstall', 'install', 'postinstall', 'prepublish', 'preprepare', 'prepare', 'postprepare']
    assert.deepEqual(
      run.filter((name) => scripts.includes(name)),
      [],
    )
  })

  it('has every file that its pages link to', () => {
    const pages = readdirSync(installed, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.md'))
    assert.ok(pages.includes('README.md') && pages.includes(join('docs', 'sessions.md')))
    const dead = pages.flatMap((page) => {
      const text = readFileSync(join(installed, page), 'utf8').replace(/```[\s\S]*?```|`[^`\n]*`/g, '')
      const links = [...text.matchAll(/\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)|^\[[^\]]+\]: (\S+)|(?:href|src)="([^"]+)"/gm)]
        .map(([, inline, reference, html]) => inline ?? reference ?? html ?? '')
        .filter((link) => !/^[a-z]+:/.test(link))
      return links.filter((link) => !resolves(join(installed, page), link)).map((link) => `${page}: ${link}`)
    })
    assert.deepEqual(dead, [])
  })

  /** An older version, told by `process.versions`; this Node.js would load everything else. */
  const pretended = `data:text/javascript,${encodeURIComponent(
    "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '22.18.9' } })",
  )}`
  const needs = `fastify-fleet needs Node.js ${manifest.engines.node.replace(/^>=|\.0$/g, '')} or later; this is `
  const entries = Object.keys(manifest.exports).filter((name) => name !== './package.json')

  function start(node: string, args: string[], env = process.env): { status: number | null; output: string } {
    const { status, stdout, stderr } = spawnSync(node, args, { cwd: project, encoding: 'utf8', env })
    return { status, output: stdout + stderr }
  }

  it('ends with one line on an older version of Node.js, whatever is loaded', () => {
    const output = `${needs}22.18.9\n`
    for (const name of entries) {
      const args = ['--import', pretended, '--eval', `import('fastify-fleet${name.slice(1)}')`]
      assert.deepEqual(start(process.execPath, args), { status: 1, output }, name)
    }
    const fleet = start(process.execPath, ['--import', pretended, join(installed, manifest.bin.fleet), '--version'])
    assert.deepEqual(fleet, { status: 1, output })
  })

  it('ends with one line on a real older version of Node.js', (t) => {
    const old = (process.env.PATH ?? '')
      .split(delimiter)
      .map((folder) => join(folder, 'node'))
      .map((node) => ({
        node,
        version: existsSync(node) ? start(node, ['-p', 'process.versions.node']).output.trim() : '',
      }))
      .find(({ version }) => version !== '' && Number(version.split('.')[0]) < 22)
    if (!old) return t.skip('PATH has no Node.js before 22')
    const output = `${needs}${old.version}\n`
    for (const name of entries) {
      const args = ['--eval', `import('fastify-fleet${name.slice(1)}')`]
      assert.deepEqual(start(old.node, args), { status: 1, output }, name)
    }
    assert.deepEqual(start(old.node, [join(installed, manifest.bin.fleet)]), { status: 1, output })
  })

  it('has a file and a declaration for every export', () => {
    const files = (target: unknown): string[] =>
      typeof target === 'string' ? [target] : Object.values(target as object).flatMap(files)
    for (const [name, target] of Object.entries(manifest.exports))
      for (const file of files(target)) assert.ok(existsSync(join(installed, file)), `${name}: ${file}`)
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
    const bom = JSON.parse(readFileSync(join(installed, 'sbom.cdx.json'), 'utf8'))
    assert.equal(bom.metadata.component.version, manifest.version)
    assert.ok(existsSync(join(installed, 'SECURITY.md')))
  })

  it('loads every export without an optional dependency', () => {
    const script = entries.map((name) => `await import('fastify-fleet${name.slice(1)}')`).join('\n')
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

  it('makes a new app that passes its own test, and its types in TypeScript', () => {
    const fleet = join(project, 'node_modules', '.bin', 'fleet')
    for (const [name, ...options] of [['plain'], ['typed', '--typescript']] as const) {
      const cwd = join(project, name)
      execFileSync(fleet, ['init', '--new', cwd, ...options], { stdio: 'pipe' })
      const env = { ...process.env, NODE_TEST_CONTEXT: undefined, REDIS_URL: undefined }
      execFileSync(process.execPath, ['--test'], { cwd, env, stdio: 'pipe' })
      if (name === 'typed')
        execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...oneThread], {
          cwd,
          env: rareCollection,
          stdio: 'pipe',
        })
    }
  })

  describe('its types', () => {
    const shared = {
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      target: 'es2022',
      types: ['node'],
    }
    const every = 'every-entry.ts'
    /** The ways in which apps compile, and files of such apps. */
    const modes = {
      'ES modules': [{ module: 'nodenext' }, ['app.ts', every]],
      'a bundler': [{ module: 'esnext', moduleResolution: 'bundler' }, ['app.ts', every]],
      CommonJS: [{ module: 'node16' }, ['commonjs.cts']],
      'Node’s own fetch': [{ module: 'nodenext', lib: ['es2023'] }, ['fetch.ts']],
      '@fastify/jwt': [{ module: 'nodenext' }, ['fastify-jwt.ts']],
      'undeclared session fields': [{ module: 'nodenext' }, ['untyped-session.ts']],
    } as const

    before(() => {
      // Copies, because a link would lead to this project's own Fastify, whose types are others for TypeScript.
      for (const name of ['@fastify/jwt', 'fast-jwt'])
        cpSync(join(root, 'node_modules', name), join(project, 'node_modules', name), { recursive: true })
      cpSync(join(root, 'test/guards/user-code'), project, { recursive: true })
      const lines = entries.map((name, i) => `export * as entry${i} from 'fastify-fleet${name.slice(1)}'`)
      writeFileSync(join(project, every), lines.join('\n'))
    })

    const compilers = {
      // The oldest version that is supported. These two read every declaration.
      'TypeScript 5.4': { package: 'typescript-5.4', tried: ['ES modules', 'CommonJS'], flags: [] },
      'TypeScript 7': { package: 'typescript', tried: Object.keys(modes), flags: oneThread },
    }
    for (const [version, compiler] of Object.entries(compilers)) {
      const tsc = join(root, 'node_modules', compiler.package, 'bin/tsc')
      for (const [mode, [options, files]] of Object.entries(modes)) {
        if (!compiler.tried.includes(mode)) continue
        it(`compile with ${version} and ${mode}`, () => {
          const compilerOptions = { ...shared, ...options, esModuleInterop: true, outDir: 'compiled' }
          writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
          assert.deepEqual(start(process.execPath, [tsc, '-p', '.', ...compiler.flags], rareCollection), {
            status: 0,
            output: '',
          })
        })
      }
    }

    it('describe what CommonJS loads', () => {
      const { status, output } = start(process.execPath, ['compiled/commonjs.cjs'])
      assert.equal(status, 0, output)
      assert.equal(output.trim().split('\n').at(-1), '200 string function')
    })
  })

  const example = /```ts\n(import Fastify[\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1] ?? ''

  it('type-checks the README’s example as written', () => {
    assert.ok(example.includes('register(fleet'))
    writeFileSync(join(project, 'app.ts'), example)
    const options = { strict: true, module: 'nodenext', target: 'es2024', noEmit: true, types: ['node'] }
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['app.ts'] }))
    execFileSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', '.', ...oneThread], {
      cwd: project,
      env: rareCollection,
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
    assert.deepEqual(await visits({ REDIS_URL: redis.url, ...patientEnv }, 2), [1, 2])
  })
})
