import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { sectionsOf, splitLine } from '../../../src/cli/doctor/readers/haproxy-syntax.ts'

describe('a line of an HAProxy configuration', () => {
  it('may end with a backslash, which adds nothing', () => {
    assert.deepEqual(splitLine('timeout client 10s\\', new Map()).words, ['timeout', 'client', '10s'])
    assert.deepEqual(splitLine('timeout client 10s\\ ', new Map()).words, ['timeout', 'client', '10s '])
  })
})

describe('the conditions of an HAProxy configuration', () => {
  it('are a reason for each branch that is skipped, and for no other line', () => {
    const text = '.if streq(a,b)\nglobal\n.else\ndefaults\n.endif\n.if streq(a,a)\nlisten a\n.endif\n'
    const { sections, skipped } = sectionsOf({ file: 'haproxy.cfg', text }, new Map())
    assert.deepEqual(
      sections.map(({ kind, line }) => [kind, line]),
      [
        ['defaults', 4],
        ['listen', 7],
      ],
    )
    assert.deepEqual(
      skipped.map(({ line, why }) => [line, why]),
      [[1, '.if streq(a,b) does not hold']],
    )
  })
})
