import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const { manPages } = (await import(new URL('../../scripts/man.js', import.meta.url).href)) as {
  manPages(): Promise<Map<string, string>>
}
const root = fileURLToPath(new URL('../..', import.meta.url))
const files = readdirSync(join(root, 'man')).sort()
const paths = files.map((file) => join(root, 'man', file))

describe('the man pages', () => {
  it('are what scripts/man.js writes', async () => {
    const expected = await manPages()
    assert.deepEqual(files, [...expected.keys()].sort(), 'run npm run reference')
    for (const [file, text] of expected)
      assert.equal(readFileSync(join(root, 'man', file), 'utf8'), text, `run npm run reference: ${file}`)
  })

  it('are part of the package, which installs them', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { man: string[]; files: string[] }
    assert.deepEqual(manifest.man.map((file) => file.replace('./man/', '')).sort(), files)
    assert.ok(manifest.files.includes('man'))
  })

  it('are correct for mandoc', (t) => {
    const { error, stdout } = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning', ...paths], { encoding: 'utf8' })
    if (error) return t.skip('mandoc is not on PATH')
    // The version of the package dates a page.
    const lines = stdout.split('\n').filter((line) => line !== '' && !line.includes('missing date'))
    assert.deepEqual(lines, [])
  })

  it('are correct for groff', (t) => {
    for (const path of paths) {
      const { error, stderr } = spawnSync('groff', ['-man', '-ww', '-Tutf8', '-z', path], { encoding: 'utf8' })
      if (error) return t.skip('groff is not on PATH')
      assert.equal(stderr, '', path)
    }
  })

  it('show an option as --help does', (t) => {
    const page = join(root, 'man', 'fleet-up.1')
    const { error, stdout } = spawnSync('mandoc', ['-T', 'ascii', page], { encoding: 'utf8' })
    if (error) return t.skip('mandoc is not on PATH')
    const plain = stdout.replace(/.[\b]/g, '')
    assert.match(plain, /\n +-n, --instances N\n +N instances, 1 to 64 \(default 3\)\n/)
  })
})
