import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs, {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  type WatchListener,
  writeFileSync,
} from 'node:fs'
import { basename, join, relative } from 'node:path'
import { describe, it } from 'node:test'
import { page } from '../../../src/cli/smoke/html.ts'
import { junit } from '../../../src/cli/smoke/junit.ts'
import { watchFiles } from '../../../src/cli/up/watch.ts'
import '../../helpers/cleanup.ts'
import { mockBuiltins } from '../../helpers/mock-builtins.ts'
import { until } from '../../helpers/until.ts'
import { sampleReport } from '../fleet-test/sample-report.ts'
import { project } from './apps.ts'

describe('watched files', () => {
  it('report changes in folders, new ones included, and not those in ignored ones', async (t) => {
    const folder = project({ 'src/a.js': '', 'dist/b.js': '', '.git/c': '', 'd.js': '' })
    const changes: string[] = []
    const watch = watchFiles([folder], (file) => void changes.push(relative(folder, file)))
    t.after(() => watch.close())
    const write = async (path: string): Promise<void> => {
      const before = changes.length
      writeFileSync(join(folder, path), String(Math.random()))
      await until(() => changes.length > before, { what: `the change of ${path}` })
    }
    for (const ignored of [
      'dist/b.js',
      '.git/c',
      'app.log',
      'report.html',
      'junit.xml',
      'a.js~',
      '.a.js.swp',
      'data.sqlite-wal',
    ]) {
      writeFileSync(join(folder, ignored), 'x')
    }
    await write('src/a.js')
    await write('.env.local')
    mkdirSync(join(folder, 'src/new'))
    await until(() => changes.at(-1) === 'src/new', { what: 'the new folder' })
    await write('src/new/e.js')
    rmSync(join(folder, 'src'), { recursive: true })
    mkdirSync(join(folder, 'src'))
    await until(() => changes.at(-1) === 'src', { what: 'the replaced folder' })
    await write('src/f.js')
    assert.deepEqual([...new Set(changes)], ['src/a.js', '.env.local', 'src/new', 'src/new/e.js', 'src', 'src/f.js'])
  })

  it('are still reported when a new folder is gone before it can be watched', async (t) => {
    const folder = project({ 'a.js': '' })
    const { watch } = fs
    const removing = (path: string, listener: WatchListener<string>) => {
      if (basename(path) === 'gone') rmSync(path, { recursive: true })
      return watch(path, listener)
    }
    mockBuiltins(t, () => t.mock.method(fs, 'watch', removing as typeof watch))
    const changes: string[] = []
    const watching = watchFiles([folder], (file) => void changes.push(relative(folder, file)))
    t.after(() => watching.close())
    mkdirSync(join(folder, 'gone'))
    await until(() => changes.length === 1, { what: 'the new folder' })
    assert.equal(existsSync(join(folder, 'gone')), false)
    writeFileSync(join(folder, 'a.js'), 'x')
    await until(() => changes.length === 2, { what: 'the change' })
    assert.deepEqual(changes, ['gone', 'a.js'])
  })

  it('can be one file, which an editor replaces, and a folder whose name is ignored', async (t) => {
    const folder = project({ 'one.js': '', 'two.js': '', 'dist/three.js': '' })
    const changes: string[] = []
    const paths = [join(folder, 'one.js'), join(folder, 'dist')]
    const watch = watchFiles(paths, (file) => void changes.push(relative(folder, file)))
    t.after(() => watch.close())
    writeFileSync(join(folder, 'two.js'), 'x')
    for (const round of [1, 2]) {
      renameSync(join(folder, 'two.js'), join(folder, 'one.js'))
      await until(() => changes.length === round, { what: 'the change' })
      writeFileSync(join(folder, 'two.js'), 'x')
    }
    writeFileSync(join(folder, 'dist/three.js'), 'x')
    await until(() => changes.length === 3, { what: 'the third change' })
    assert.deepEqual(changes, ['one.js', 'one.js', 'dist/three.js'])
  })

  it('stop at a file that changes all the time, because the reload may cause that', async (t) => {
    const folder = project({ 'a.js': '', 'out.txt': '' })
    const changes: string[] = []
    let noise = ''
    const onNoise = (message: string): void => {
      noise = message
    }
    const again = (file: string): void => {
      changes.push(relative(folder, file))
      appendFileSync(join(folder, 'out.txt'), 'reload\n')
    }
    const watch = watchFiles([folder], again, { onNoise })
    t.after(() => watch.close())
    writeFileSync(join(folder, 'a.js'), 'x')
    await until(() => /out\.txt changes all the time/.test(noise), { what: 'the end of the loop' })
    assert.equal(changes.filter((file) => file === 'out.txt').length, 10)
    assert.match(
      noise,
      /^\S*out\.txt changes all the time and does not count any more; name the sources with --watch-path$/,
    )
    const count = changes.length
    writeFileSync(join(folder, 'a.js'), 'y')
    await until(() => changes.length > count, { what: 'a change of another file' })
    assert.equal(changes.at(-1), 'a.js')
  })

  it('count however often they change, if that takes longer than ten seconds', async (t) => {
    const folder = project({ 'a.js': '' })
    let now = 0
    t.mock.method(performance, 'now', () => now)
    let changes = 0
    const watch = watchFiles([folder], () => void changes++, { onNoise: assert.fail })
    t.after(() => watch.close())
    for (let round = 1; round <= 11; round++) {
      writeFileSync(join(folder, 'a.js'), String(round))
      await until(() => changes === round, { what: `change ${round}` })
      now += 1_001
    }
  })

  it('that change together are one change, that of the last one', async (t) => {
    const folder = project({ 'a.js': '', 'b.js': '' })
    const changes: string[] = []
    const watch = watchFiles([folder], (file) => void changes.push(relative(folder, file)))
    t.after(() => watch.close())
    for (const file of ['a.js', 'b.js']) writeFileSync(join(folder, file), 'x')
    await until(() => changes.length > 0)
    writeFileSync(join(folder, 'a.js'), 'y')
    await until(() => changes.length > 1)
    assert.deepEqual(changes, ['b.js', 'a.js'])
  })

  it('are not those of a folder that is left out, also if that is made later', async (t) => {
    for (const more of [{ 'kept/b.js': '' }, {}] as Record<string, string>[]) {
      const folder = project({ 'a.js': '', ...more })
      const except = join(folder, 'kept')
      const changes: string[] = []
      const watch = watchFiles([folder], (file) => void changes.push(relative(folder, file)), { except })
      t.after(() => watch.close())
      writeFileSync(join(folder, 'a.js'), 'x')
      mkdirSync(except, { recursive: true })
      writeFileSync(join(except, 'b.js'), 'x')
      await until(() => changes.length > 0)
      assert.deepEqual(changes, ['a.js'], 'the last one would count')
    }
  })

  it('are neither reports of fleet test, whatever their names are, nor empty', async (t) => {
    const folder = project({ 'a.js': '' })
    const changes: string[] = []
    const watch = watchFiles([folder], (file) => void changes.push(relative(folder, file)))
    t.after(() => watch.close())
    const report = sampleReport({ url: `http://front/${'long'.repeat(100)}` })
    for (const [name, text] of [
      ['t.json', JSON.stringify(report)],
      ['j.xml', junit(report)],
      ['page.html', page(report)],
      ['empty.js', ''],
    ] as const) {
      writeFileSync(join(folder, 'a.js'), name)
      await until(() => changes.length > 0, { what: 'the change before it' })
      writeFileSync(join(folder, name), text)
      // The last one of changes that follow closely would count.
      writeFileSync(join(folder, 'a.js'), `${name} `)
      writeFileSync(join(folder, name), text)
      await until(() => changes.length > 1, { what: 'the change beside it' })
      assert.deepEqual(changes.splice(0), ['a.js', 'a.js'], name)
    }
    writeFileSync(join(folder, 'other.html'), '<!doctype html><title>A page</title>')
    await until(() => changes.length > 0)
    assert.deepEqual(changes, ['other.html'])
  })

  it('are not the output of this process', () => {
    const folder = project({ 'a.js': '', 'output.txt': '' })
    const source = `
      import { writeFileSync } from 'node:fs'
      import { watchFiles } from ${JSON.stringify(new URL('../../../src/cli/up/watch.ts', import.meta.url).href)}
      watchFiles(['.'], (file) => process.stderr.write(file, () => process.exit()))
      writeFileSync('a.js', 'x')
      console.log('x')
    `
    const output = openSync(join(folder, 'output.txt'), 'w')
    const args = ['--input-type=module', '-e', source]
    const { stderr } = spawnSync(process.execPath, args, { cwd: folder, stdio: ['ignore', output, 'pipe'] })
    closeSync(output)
    assert.equal(String(stderr), 'a.js')
  })

  it('are in at most 5,000 folders', (t) => {
    const folder = project({})
    t.after(() => rmSync(folder, { recursive: true }))
    const limit = 5_000
    for (let i = 1; i < limit; i++) mkdirSync(join(folder, `f${i}`))
    try {
      watchFiles([folder], () => {}).close()
    } catch (error) {
      return t.skip((error as Error).message)
    }
    mkdirSync(join(folder, 'last'))
    assert.throws(() => watchFiles([folder], () => {}), {
      code: 'FLEET_ERR_SERVICE_FAILED',
      message: /--watch: more than 5000 folders; name the folders of the sources with --watch-path$/,
    })
  })

  it('must exist', () => {
    assert.throws(() => watchFiles(['/no/such/folder'], () => {}), {
      code: 'FLEET_ERR_USAGE',
      message: /--watch-path: no such file or folder: \/no\/such\/folder$/,
    })
  })
})
