import assert from 'node:assert/strict'
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import init from '../../../src/cli/commands/init.ts'
import { dispatch } from '../../../src/cli/dispatch.ts'
import { Output } from '../../../src/cli/output.ts'
import '../../helpers/cleanup.ts'
import { commitAll, contents, type Files, fleetInit, manifest, project, read, report, write } from './projects.ts'

const esm = manifest({ type: 'module' })
const plain = {
  'package.json': esm,
  'app.js': "import Fastify from 'fastify'\nconst app = Fastify()\nawait app.listen({ port: 3000 })\n",
}

function committed(files: Files): string {
  const folder = project(files)
  commitAll(folder)
  return folder
}

describe('fleet init edits nothing that git could not undo', () => {
  it('names files with uncommitted changes, and edits them with --force', async () => {
    const folder = committed(plain)
    write(folder, { 'app.js': `// my work\n${plain['app.js']}` })
    const before = contents(folder)
    const refused = await fleetInit(folder, '--yes')
    assert.equal(refused.code, 1)
    assert.match(
      refused.stdout,
      /nothing was changed: app\.js has changes that are not committed; commit them, so that git can undo this, or use --force\n$/,
    )
    assert.deepEqual(contents(folder), before)
    assert.equal((await fleetInit(folder, '--yes', '--force')).code, 0)
    assert.match(read(folder, 'app.js'), /^\/\/ my work\n/)
  })

  it('names all of them, and asks nothing with --json', async () => {
    const folder = committed(plain)
    const asked = await report(folder)
    assert.deepEqual([asked.applied, asked.reason], [false, '--json does not ask; apply it with --yes'])
    assert.deepEqual(asked.files, ['app.js', '.env.example', 'package.json'])
    write(folder, {
      'app.js': `// my work\n${plain['app.js']}`,
      'package.json': manifest({ type: 'module', description: 'mine' }),
    })
    const { applied, reason } = await report(folder, '--yes')
    assert.equal(applied, false)
    assert.match(String(reason), /^app\.js, package\.json have changes that are not committed;/)
  })

  it('writes nothing if a file changes while the diff is shown', async () => {
    for (const late of ['app.js', '.env.example']) {
      const folder = committed(plain)
      const before = contents(folder)
      let shown = ''
      const stream = {
        write: (text: string) => {
          if (shown === '') write(folder, { [late]: '// mine\n' })
          shown += text
        },
      }
      const verbs = { init: async () => ({ default: init }) }
      const out = new Output({ stdout: stream, stderr: stream })
      assert.equal(await dispatch(verbs, ['init', folder, '--yes', '--force'], out), 2)
      assert.ok(shown.includes(`${late} has changed since it was read, or is a link; nothing was changed`), shown)
      assert.deepEqual(contents(folder), { ...before, [late]: '// mine\n' })
    }
  })

  it('says what it did, what is left, and what comes next', async () => {
    const done = await fleetInit(committed(plain), '--yes')
    assert.equal(done.code, 0)
    assert.match(
      done.stdout,
      /\nedited app\.js\nwrote {2}\.env\.example\nedited package\.json\n\nNext:\n {2}npm install\n {2}npm run fleet /,
    )
    const app = "import Fastify from 'fastify'\nclass A {\n  app = Fastify()\n}\n"
    const left = await fleetInit(committed({ 'package.json': esm, 'app.js': app }), '--yes')
    assert.equal(left.code, 1)
    assert.match(left.stdout, /edited package\.json\nthe lines above are left to add by hand\n\nNext:/)
  })

  it('does not edit files that git does not know, and ignores changes of other files', async () => {
    const folder = project(plain)
    write(folder, { '.gitignore': 'node_modules\napp.js\n' })
    commitAll(folder)
    assert.match((await fleetInit(folder, '--yes')).stdout, /app\.js has changes that are not committed/)

    const other = committed(plain)
    write(other, { 'notes.txt': 'mine' })
    assert.equal((await fleetInit(other, '--yes')).code, 0)
  })

  it('edits package.json after `npm install fastify-fleet`, and not after any other change', async () => {
    const installed = (more: object): string =>
      manifest({ type: 'module', dependencies: { fastify: '^5.0.0', 'fastify-fleet': '^0.1.0' }, ...more })
    const folder = committed(plain)
    write(folder, { 'package.json': installed({ description: 'mine' }) })
    assert.match((await fleetInit(folder, '--yes')).stdout, /package\.json has changes that are not committed/)
    write(folder, { 'package.json': installed({}) })
    assert.equal((await fleetInit(folder, '--yes')).code, 0)
    assert.match(read(folder, 'package.json'), /"fleet": "fleet up"|"fleet": "fleet up app\.js"/)
  })

  it('works without a repository', async () => {
    assert.equal((await fleetInit(project(plain), '--yes')).code, 0)
  })

  it('does not write through links', async () => {
    const folder = project({ 'package.json': esm, 'real.js': plain['app.js'] })
    symlinkSync('real.js', join(folder, 'app.js'))
    const { code, stderr } = await fleetInit(folder, '--yes', '--force')
    assert.equal(code, 2)
    assert.match(stderr, /app\.js has changed since it was read, or is a link; nothing was changed/)
    assert.equal(read(folder, 'package.json'), esm)
  })
})

describe('fleet init ends with 2', () => {
  for (const [name, files, args, says] of [
    [
      'without a package.json',
      {},
      [],
      /no .*package\.json; name the folder of an app, or make a new one with `fleet init --new DIR`/,
    ],
    [
      'without Fastify',
      { 'package.json': '{}', 'app.js': '' },
      [],
      /does not depend on fastify; make a new app with `fleet init --new DIR`/,
    ],
    [
      'at the root of a monorepo',
      { 'package.json': '{"workspaces":["packages/*"]}' },
      [],
      /`fleet init packages\/api`/,
    ],
    ['for a package.json that is not JSON', { 'package.json': '{,}' }, [], /package\.json is not JSON/],
    ['for a missing --app', plain, ['--app', 'none.js'], /--app: no such file/],
    ['for --typescript without --new', plain, ['--typescript'], /--typescript is for --new/],
    [
      'for Fastify 4',
      { ...plain, 'node_modules/fastify/package.json': '{"version":"4.29.0"}' },
      [],
      /the app uses Fastify 4\.29\.0; fastify-fleet needs Fastify 5/,
    ],
  ] as const) {
    it(name, async () => {
      const folder = project(files)
      const { code, stderr } = await fleetInit(folder, ...args)
      assert.equal(code, 2)
      assert.match(stderr, says)
    })
  }
})

describe('fleet init prints lines to add by hand', () => {
  for (const [name, app, place, reason] of [
    [
      'for a member of a class',
      "import Fastify from 'fastify'\n\nclass Server {\n  app = Fastify()\n}\n",
      'app.js:4',
      /is not declared as a variable/,
    ],
    [
      'for an assignment',
      "import Fastify from 'fastify'\nlet app\napp = Fastify()\n",
      'app.js:3',
      /is not declared as a variable/,
    ],
    [
      'for two instances',
      "import * as f from 'fastify'\nconst a = f.fastify()\nconst b = f.default()\n",
      'app.js:1',
      /it creates 2 Fastify instances/,
    ],
    [
      'for a syntax error',
      "import Fastify from 'fastify'\nconst app = = Fastify()\n",
      'app.js:1',
      /it cannot be parsed \(Unexpected token/,
    ],
    ['for an app that creates no instance', "import './lib.js'\n", 'app.js:1', /no call of Fastify is found/],
  ] as const) {
    it(name, async () => {
      const folder = committed({ 'package.json': esm, 'app.js': app, 'lib.js': '' })
      const { manual } = await report(folder, '--yes')
      assert.equal(manual[0]?.place, place)
      assert.match(manual[0]?.reason ?? '', reason)
      assert.match(
        manual[0]?.lines.join('\n') ?? '',
        /^import \{ fleet, serverOptions \} from 'fastify-fleet' .*\nFastify\(\{ \.\.\.serverOptions\(\) \}\) .*\nawait app\.register\(fleet, \{ name: 'shop' \}\) /,
      )
      assert.equal(read(folder, 'app.js'), app)
      assert.ok(read(folder, 'package.json').includes('"fastify-fleet"'), 'the other files are done')
      const again = await fleetInit(folder, '--yes')
      assert.equal(again.code, 1)
      assert.match(again.stdout, /app\.js:\d is not edited: .* Add by hand:\n {4}import/)
    })
  }

  it('for an app that declares the names of fleet itself', async () => {
    const app = "import Fastify from 'fastify'\nconst fleet = 1, fastifyFleet = 2\nconst app = Fastify()\n"
    const folder = project({ 'package.json': esm, 'app.js': app })
    const { manual } = await report(folder, '--yes')
    assert.deepEqual(
      manual.map(({ place, reason }) => [place, reason]),
      [['app.js:1', 'the edited file would not be what it should be']],
    )
    assert.equal(read(folder, 'app.js'), app)
  })

  it('for TypeScript that is more than types', async () => {
    const folder = project({
      'package.json': esm,
      'app.ts': "import Fastify from 'fastify'\nenum A { B }\nconst app = Fastify()\n",
    })
    const { manual, notes } = await report(folder, '--dry-run')
    assert.equal((await fleetInit(folder, '--dry-run')).code, 0, 'nothing was to be applied')
    assert.equal((await fleetInit(folder, '--yes')).code, 1)
    assert.match(manual[0]?.reason ?? '', /it cannot be parsed \(TypeScript enum is not supported/)
    assert.ok(notes.some((note) => /Node cannot run app\.ts/.test(note)))
  })

  it('for several files with an instance, unless --app names one', async () => {
    const one = "import Fastify from 'fastify'\nexport const app = Fastify()\n"
    const folder = project({
      'package.json': esm,
      'app.js': "import './a.js'\nimport './b.js'\n",
      'a.js': one,
      'b.js': one,
    })
    assert.match(
      (await report(folder)).manual[0]?.reason ?? '',
      /a\.js and b\.js create an instance each; name one with `--app FILE`/,
    )
    assert.deepEqual((await report(folder, '--app', 'b.js', '--dry-run')).manual, [])
    write(folder, { 'app.js': "import Fastify from 'fastify'\nimport './b.js'\nconst app = Fastify()\n" })
    const { manual, diff } = await report(folder, '--dry-run')
    assert.deepEqual(manual, [], 'that of the program')
    assert.match(diff, /^\+\+\+ b\/app\.js$/m)
    assert.doesNotMatch(diff, /b\/b\.js/)
  })

  it('for a listener whose port is unknown, and a server.js that exists', async () => {
    // The edited line of the second would be invalid.
    for (const port of ['config.port', '(3000)']) {
      const folder = project({ 'package.json': esm, 'app.js': plain['app.js'].replace('3000', port) })
      assert.match(
        (await report(folder)).notes.join(),
        /app\.js:3: let it listen on port Number\(process\.env\.PORT \?\? 3000\)/,
        port,
      )
    }
    const cli = project({
      'package.json': manifest({ scripts: { start: 'fastify start app.js' } }),
      'app.js': 'module.exports = async () => {}\n',
      'server.js': '',
    })
    const { manual } = await report(cli)
    assert.equal(manual[0]?.place, 'server.js')
    assert.ok(manual[0]?.lines.includes("app.register(fleet, { name: 'shop' })"))
  })

  it('and nothing for an app that has fleet already', async () => {
    const done =
      "import Fastify from 'fastify'\nimport { session } from 'fastify-fleet/session'\nthis.app = Fastify()\nthis.app.register(session)\n"
    const folder = project({ 'package.json': esm, 'app.js': done })
    assert.equal((await fleetInit(folder, '--yes')).code, 0)
    assert.equal(read(folder, 'app.js'), done)
    const others = { 'package.json': esm, 'app.js': `import 'fastify-fleet-extra'\n${plain['app.js']}` }
    assert.match((await report(project(others), '--dry-run')).diff, /^\+await app\.register\(fleet, /m)
  })
})
