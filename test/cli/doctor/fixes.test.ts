import assert from 'node:assert/strict'
import { readFileSync, symlinkSync } from 'node:fs'
import { describe, it } from 'node:test'
import type { Finding } from '../../../src/cli/doctor/evaluate.ts'
import type { Replacement, Source } from '../../../src/cli/doctor/facts.ts'
import { fixesOf, write } from '../../../src/cli/doctor/fix.ts'
import { project } from './project.ts'

const finding = (file: string, line: number, edit?: Replacement): Finding => ({
  ...{ code: 'DOCTOR_GRACE', message: '', fix: '', confidence: 'certain' },
  ...{ file, line, edit },
})
/** The new text of a file with one change. */
function changed(text: string, line: number, from: string, to: string): string | undefined {
  const own = project()
  own.write('a.conf', text)
  const file = own.path('a.conf')
  return fixesOf([finding(file, line, { from, to })], [{ file, text }], [own.folder])[0]?.text
}

describe('a fix', () => {
  it('changes the one place of its text on the line, or the start of the line', () => {
    assert.equal(changed('a 1;\na 1;\n', 2, '1', '2'), 'a 1;\na 2;\n')
    assert.equal(changed('a 1 1;\n', 1, '1', '2'), undefined)
    assert.equal(changed('  a b a;\n', 1, 'a', 'c'), '  c b a;\n')
    assert.equal(changed('a 1;\n', 1, '3', '2'), undefined)
    assert.equal(changed('a 1;\n', 9, '1', '2'), undefined)
    assert.equal(changed('a 1;\n', 1, '', '2'), undefined)
  })

  it('keeps the indentation and the end of the line, and the rest of it', () => {
    assert.equal(changed('  a; # why\r\nb;\r\n', 1, 'a;', 'x;\na;'), '  x;\r\n  a; # why\r\nb;\r\n')
  })

  it('is made with the others of its file, and shown in the order of the lines', () => {
    const own = project()
    const text = 'a 1;\nb 1;\nc 1;\n'
    own.write('a.conf', text)
    const file = own.path('a.conf')
    const findings = [3, 1].map((line) => finding(file, line, { from: '1', to: '2' }))
    const [fix, ...more] = fixesOf([...findings, finding(file, 2)], [{ file, text }], [file])
    assert.deepEqual(more, [])
    assert.deepEqual(fix?.fixed, findings)
    assert.equal(fix?.text, 'a 2;\nb 1;\nc 2;\n')
    assert.deepEqual(fix?.diff.slice(2), ['@@ line 1 @@', '-a 1;', '+a 2;', '@@ line 3 @@', '-c 1;', '+c 2;'])
  })

  it('is for files that were named or are in a named folder, and neither links nor references', () => {
    const [own, outside] = [project(), project()]
    for (const one of [own, outside]) one.write('a.conf', 'a 1;\n')
    own.write('sub/b.conf', 'a 1;\n')
    symlinkSync(outside.path('a.conf'), own.path('link.conf'))
    symlinkSync('a.conf', own.path('inner.conf'))
    symlinkSync(outside.folder, own.path('up'))
    const fixes = (file: string, names: readonly string[], more: Partial<Source> = {}): number => {
      const source: Source = { file, text: 'a 1;\n', ...more }
      return fixesOf([finding(file, 1, { from: '1', to: '2' })], [source], names).length
    }
    assert.equal(fixes(own.path('a.conf'), [own.folder]), 1)
    assert.equal(fixes(own.path('a.conf'), [own.path('a.conf')]), 1)
    assert.equal(fixes(own.path('sub/b.conf'), [own.folder]), 1)
    assert.equal(fixes(own.path('a.conf'), [own.folder], { isReference: true }), 0)
    assert.equal(fixes(own.path('a.conf'), [own.path('sub')]), 0)
    assert.equal(fixes(outside.path('a.conf'), [own.folder]), 0)
    for (const link of ['link.conf', 'inner.conf']) assert.equal(fixes(own.path(link), [own.folder]), 0)
    assert.equal(fixes(own.path('up/a.conf'), [own.folder]), 0)
    assert.equal(fixes(own.path('gone.conf'), [own.folder]), 0)
    assert.equal(fixes('stdin', [own.folder]), 0)
  })

  it('is not written if the file has changed since it was read', async () => {
    const own = project()
    const file = own.path('a.conf')
    const fix = { file, text: 'a 2;\n', fixed: [], diff: [] }
    own.write('a.conf', '\uFEFFa 1;\n')
    assert.equal(await write(fix, { file, text: 'a 1;\n' }), true)
    assert.equal(readFileSync(file, 'utf8'), '\uFEFFa 2;\n')
    assert.equal(await write(fix, { file, text: 'a 1;\n' }), false)
    own.write('a.conf', 'a 3;\n')
    assert.equal(await write(fix, { file, text: 'a 1;\n' }), false)
    assert.equal(readFileSync(file, 'utf8'), 'a 3;\n')
  })
})
