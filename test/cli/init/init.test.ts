import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import Fastify from 'fastify'
import { parse } from 'yaml'
import { applied, type Change, type Edit, unifiedDiff } from '../../../src/cli/init/change.ts'
import { decorated } from '../../../src/cli/init/existing.ts'
import { own } from '../../../src/cli/init/manifest.ts'
import { launch, temporaryFolder } from '../../../src/cli/up/child.ts'
import { findProgram } from '../../../src/cli/up/find.ts'
import fleet from '../../../src/index.ts'
import '../../helpers/cleanup.ts'
import { main } from '../up/apps.ts'
import { commitAll, fleetInit, manifest, project, read, report, write } from './projects.ts'

const app = "import Fastify from 'fastify'\nconst app = Fastify()\nawait app.listen({ port: 3000 })\n"
const files = { 'package.json': manifest({ type: 'module' }), 'app.js': app }

describe('fleet init', () => {
  it('adds missing variables to .env.example, and keeps scripts and dependencies that exist', async () => {
    const kept = {
      scripts: { fleet: 'fleet up app.js --front haproxy' },
      dependencies: { fastify: '^5.0.0', 'fastify-fleet': '*', zod: '1' },
    }
    const folder = project({
      ...files,
      'package.json': manifest({ type: 'module', ...kept }),
      '.env.example': 'PORT=80\n#REDIS_URL=\nMINE=1',
    })
    const { notes } = await report(folder, '--yes')
    assert.match(read(folder, '.env.example'), /^PORT=80\n#REDIS_URL=\nMINE=1\n\nHOST=127\.0\.0\.1\n# Signs/)
    const { scripts, dependencies } = JSON.parse(read(folder, 'package.json'))
    assert.deepEqual(scripts, { ...kept.scripts, start: 'node app.js' })
    assert.deepEqual(dependencies, kept.dependencies)
    assert.ok(
      notes.some((note) => /the script `fleet` exists and is kept; else it would be `fleet up app\.js`/.test(note)),
    )
  })

  it('changes no file outside its folder, whatever a script or an import names', async () => {
    const scripts = { start: 'node ../app.js' }
    const imports = 'import "../app.js"\n'
    const folder = project({
      'api/package.json': manifest({ type: 'module', scripts }),
      'api/server.js': imports,
      'app.js': app,
    })
    const { files: written } = await report(join(folder, 'api'), '--yes')
    assert.deepEqual(written, ['.env.example', 'package.json'])
    assert.equal(read(folder, 'app.js'), app)
    const { code, stderr } = await fleetInit(join(folder, 'api'), '--app', '../app.js', '--yes')
    assert.equal(code, 2)
    assert.match(stderr, /--app: must be a file in .*\/api, and is .*\/app\.js/)
    assert.equal(read(folder, 'app.js'), app)

    symlinkSync(folder, join(folder, 'api/linked'))
    write(folder, { 'api/package.json': manifest({ type: 'module', scripts: { start: 'node linked/app.js' } }) })
    assert.deepEqual((await report(join(folder, 'api'), '--yes')).files, ['package.json'])
    assert.equal(read(folder, 'app.js'), app)
  })

  it('writes container files with --docker where they are missing', async () => {
    const folder = project({ ...files, '.dockerignore': 'mine\n' })
    assert.equal((await fleetInit(folder, '--docker', '--yes', '--name', 'store')).code, 0)
    assert.match(read(folder, 'Dockerfile'), /^CMD \["node", "app\.js"\]$/m)
    const compose = parse(read(folder, 'compose.yml'))
    assert.equal(compose.name, 'store')
    assert.deepEqual(Object.keys(compose.services), ['app', 'balancer', 'redis'])
    assert.doesNotMatch(read(folder, 'compose.yml'), /README/)
    assert.equal(read(folder, '.dockerignore'), 'mine\n')

    const scripts = { build: 'tsc', start: 'node dist/main.js' }
    const built = project({ 'package.json': manifest({ scripts }), 'src/main.ts': `import 'cluster'\n${app}` })
    symlinkSync('of-all-apps', join(built, '.dockerignore'))
    const { diff, notes, files: written } = await report(built, '--docker', '--dry-run')
    assert.deepEqual(written, ['src/main.ts', 'Dockerfile', 'compose.yml', '.env.example', 'package.json'])
    assert.match(diff, /^\+CMD \["node", "dist\/main\.js"\]$/m)
    assert.match(notes.join('\n'), /^node:cluster: .*\nDockerfile: add the build that makes dist\/main\.js/)
  })

  it('writes container files for app.js if it finds no program', async () => {
    const folder = project({ 'package.json': manifest({}) })
    const { diff, entry } = await report(folder, '--docker', '--dry-run')
    assert.equal(entry, undefined)
    assert.match(diff, /^\+CMD \["node", "app\.js"\]$/m)
  })

  it('knows each name that fleet decorates an app with', async () => {
    const server = Fastify()
    const before = new Set(Object.getOwnPropertyNames(server))
    await server.register(fleet, { lifecycle: { signals: false } })
    await server.ready()
    const added = new Set(Object.getOwnPropertyNames(server).filter((name) => !before.has(name)))
    await server.close()
    // Fleet uses those of an app instead of its own.
    const shared = ['authenticate', 'createRateLimit', 'rateLimit', 'redis']
    assert.deepEqual([...Object.keys(decorated), ...shared].sort(), [...added].sort())
    for (const [name, option] of Object.entries(decorated)) {
      assert.ok(added.has(name), name)
      if (!option) continue
      const without = Fastify()
      without.decorate(name as 'fleet', {} as never)
      await without.register(fleet, { lifecycle: { signals: false }, [option]: false })
      await without.ready()
      await without.close()
    }
  })

  const script = findProgram(['script'])
  const skip = process.platform === 'linux' && script ? false : 'needs `script` of util-linux'
  const undo = / There is no git repository to undo it\./.source
  for (const [reply, says, hasFleet, isCommitted] of [
    ['y', /edited app\.js/, true, false],
    ['n', /nothing was changed: the reply was no/, false, false],
    ['', /nothing was changed: the reply was no/, false, true],
  ] as const) {
    it(`asks on a terminal; the reply is ${JSON.stringify(reply)}`, { skip }, async () => {
      const folder = project(files)
      if (isCommitted) commitAll(folder)
      const pipe = join(temporaryFolder('reply'), 'stdin')
      execFileSync('mkfifo', [pipe])
      // A pipe that stays open: `script` ends when its input does.
      const line = `exec 3<>${pipe}; exec ${script} -qefc '${process.execPath} ${main} init' /dev/null <${pipe}`
      const terminal = launch('/bin/sh', ['-c', line], { cwd: folder, env: { SHELL: '/bin/sh' } })
      await terminal.waitFor(new RegExp(`Apply these changes to 3 files\\?${isCommitted ? '' : undo} \\[y/N\\]`))
      assert.equal(read(folder, 'app.js'), app)
      writeFileSync(pipe, `${reply}\n`)
      await terminal.waitFor(says)
      await terminal.exit
      assert.equal(read(folder, 'app.js').includes('fastify-fleet'), hasFleet)
    })
  }
})

describe('fleet init --new', () => {
  it('makes an app in a new or empty folder, also in TypeScript', async () => {
    const folder = join(temporaryFolder('new'), 'a', 'Shop')
    const { code, stdout } = await fleetInit('--new', folder)
    assert.equal(code, 0)
    assert.match(stdout, /^\+await app\.register\(fleet, \{ name: 'shop' \}\)/m)
    const text = read(folder, 'app.js')
    assert.match(text, /^export const app = Fastify\(serverOptions\(\)\)/m)
    assert.match(text, /port: Number\(process\.env\.PORT \?\? 3000\), host: process\.env\.HOST \?\? 'localhost' \}\)$/m)
    assert.equal(read(folder, '.gitignore'), 'node_modules/\n.env\n')
    const { private: isPrivate, dependencies } = JSON.parse(read(folder, 'package.json'))
    assert.deepEqual([isPrivate, dependencies], [true, { fastify: '^5.0.0', 'fastify-fleet': `^${own().version}` }])
    assert.match(stdout, /Next:\n {2}cd .*Shop\n {2}npm install\n {2}npm test\n {2}npm run fleet\n$/)
    assert.deepEqual(readdirSync(folder).sort(), [
      '.env.example',
      '.gitignore',
      'app.js',
      'app.test.js',
      'package.json',
    ])
    assert.equal((await fleetInit(folder, '--yes')).stdout.split('\n').at(-2), 'nothing to do: fleet is set up')

    mkdirSync(join(folder, 'typed'))
    assert.equal((await fleetInit('--new', join(folder, 'typed'), '--typescript', '--dry-run')).code, 0)
    assert.deepEqual(readdirSync(join(folder, 'typed')), [])
    assert.equal((await fleetInit('--new', join(folder, 'typed'), '--typescript')).code, 0)
    assert.ok(existsSync(join(folder, 'typed/tsconfig.json')))
    const { scripts, devDependencies } = JSON.parse(read(folder, 'typed/package.json'))
    assert.equal(scripts.fleet, 'fleet up app.ts')
    assert.deepEqual(Object.keys(devDependencies), ['@types/node', 'typescript'])
  })

  it('ignores a repository without files, and needs no `cd` for the current folder', async (t) => {
    const folder = temporaryFolder('new')
    mkdirSync(join(folder, '.git'))
    const before = process.cwd()
    process.chdir(folder)
    t.after(() => process.chdir(before))
    const { code, stdout } = await fleetInit('--new', '.', '--name', 'store')
    assert.equal(code, 0)
    assert.match(stdout, /Next:\n {2}npm install\n/)
    assert.match(read(folder, 'app.js'), /name: 'store'/)
  })

  it('rejects a file in place of the folder, and options for an existing app', async () => {
    const folder = temporaryFolder('new')
    write(folder, { file: '' })
    for (const [args, says] of [
      [[join(folder, 'file')], /file is not a folder/],
      [[join(folder, 'app'), '--docker'], /--app and --docker are for an existing app/],
      [[join(folder, 'app'), '--app', 'x.js'], /--app and --docker are for an existing app/],
      [[join(folder, 'app'), 'more'], /expected one DIR/],
      [[join(folder, 'app'), '--name', 'No Name'], /FLEET_ERR_USAGE/],
    ] as const) {
      const { code, stderr } = await fleetInit('--new', ...args)
      assert.equal(code, 2, stderr)
      assert.match(stderr, says)
    }
    assert.deepEqual(readdirSync(folder), ['file'])
  })

  it('does not write into a folder with files', async () => {
    const folder = project({})
    const { code, stderr } = await fleetInit('--new', folder)
    assert.equal(code, 2)
    assert.match(stderr, /is not empty; for an existing app, leave out --new/)
    assert.ok(!existsSync(join(folder, 'app.js')) && statSync(folder).isDirectory())
  })
})

describe('a diff', () => {
  it('names the lines of each part, before and after', () => {
    const before = Array.from({ length: 20 }, (_, i) => `${i + 1}\n`).join('')
    const edits = [
      { start: before.indexOf('5\n'), end: before.indexOf('6\n'), text: 'five\nand a half\n' },
      { start: before.indexOf('18\n'), end: before.indexOf('19\n'), text: '' },
    ]
    const headers = (change: Change): string[] => unifiedDiff(change).match(/^(?:@@|---|\+\+\+|diff).*$/gm) ?? []
    assert.deepEqual(headers({ file: 'a.txt', before, edits }), [
      ...['diff --git a/a.txt b/a.txt', '--- a/a.txt', '+++ b/a.txt'],
      ...['@@ -2,7 +2,8 @@', '@@ -15,6 +16,5 @@'],
    ])
    const text = [{ start: 0, end: 0, text: 'a\nb\n' }]
    assert.equal(headers({ file: 'b', before: undefined, edits: text }).at(-1), '@@ -0,0 +1,2 @@')
  })

  const numbered = Array.from({ length: 30 }, (_, i) => `line ${i}\n`).join('')
  const at = (text: string, part: string, length: number, inserted: string): Edit => {
    const start = text.indexOf(part)
    return { start, end: start + length, text: inserted }
  }
  for (const [name, before, edits] of [
    ['of a new file', undefined, [{ start: 0, end: 0, text: 'a\nb' }]],
    ['of an empty file', '', [{ start: 0, end: 0, text: 'a\n' }]],
    [
      'at both ends',
      numbered,
      [
        { start: 0, end: 0, text: 'first\n' },
        { start: numbered.length, end: numbered.length, text: 'last\n' },
      ],
    ],
    ['behind a last line without a break', 'a\nb', [{ start: 3, end: 3, text: '\nc\n' }]],
    [
      'in neighbouring lines',
      numbered,
      [at(numbered, 'line 3', 6, 'three'), at(numbered, 'line 4', 0, 'new\n'), at(numbered, 'line 5', 4, 'x\ny')],
    ],
    [
      'in hunks that touch and that do not',
      numbered,
      [at(numbered, 'line 2\n', 7, ''), at(numbered, 'line 9', 0, 'z\n'), at(numbered, 'line 25', 7, '')],
    ],
    ['that changes nothing in a line', numbered, [at(numbered, 'line 7', 6, 'line 7'), at(numbered, 'line 8', 0, 'x')]],
  ] as const) {
    it(`${name} is what git applies`, () => {
      const folder = temporaryFolder('diff')
      if (before !== undefined) write(folder, { 'a.txt': before })
      const change = { file: 'a.txt', before, edits }
      execFileSync('git', ['apply', '-'], { cwd: folder, input: unifiedDiff(change) })
      assert.equal(read(folder, 'a.txt'), applied(change))
    })
  }
})
