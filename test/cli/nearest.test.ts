import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { nearest, suggestion } from '../../src/cli/nearest.ts'

describe('the word that was meant', () => {
  it('differs by a missing, an additional, a wrong or two swapped letters, anywhere', () => {
    for (const mistyped of ['raget', 'taget', 'targe', 'starget', 'tarrget', 'targets', 'larget', 'tarmet', 'targex'])
      assert.equal(nearest(mistyped, ['target']), 'target', mistyped)
    for (const swapped of ['ps', 'sp']) assert.equal(nearest(swapped, ['ps']), 'ps')
    for (const swapped of ['atrget', 'tagret', 'targte']) assert.equal(nearest(swapped, ['target']), 'target', swapped)
  })

  it('may differ by a third of its letters, at least by one, and not by more', () => {
    assert.equal(nearest('conection', ['connections']), 'connections')
    assert.equal(nearest('xonxecxions', ['connections']), 'connections')
    assert.equal(nearest('xonxecxionx', ['connections']), undefined)
    assert.equal(nearest('abx', ['abc']), 'abc')
    assert.equal(nearest('axx', ['abc']), undefined)
    assert.equal(nearest('x', ['a']), 'a')
    assert.equal(nearest('xy', ['ab']), undefined)
    assert.equal(nearest('badc', ['abcd']), undefined, 'two swaps are two')
    assert.equal(nearest('badcef', ['abcdef']), 'abcdef')
  })

  it('is the nearest one, the first of several', () => {
    assert.equal(nearest('stat', ['start', 'state', 'stat']), 'stat')
    assert.equal(nearest('statu', ['start', 'status']), 'status')
    assert.equal(nearest('drain', ['undrain', 'drain']), 'drain')
    assert.equal(nearest('tst', ['test', 'tast']), 'test')
  })

  it('is looked for in the first 64 letters only', () => {
    assert.equal(nearest('a'.repeat(100), ['a'.repeat(64)]), 'a'.repeat(64))
    assert.equal(nearest('a'.repeat(100), ['a'.repeat(90)]), 'a'.repeat(90))
    assert.equal(nearest('a'.repeat(100), ['a'.repeat(100)]), undefined)
  })

  it('ends a message, if there is one', () => {
    assert.equal(suggestion('sial', ['sail', 'fly']), ' (did you mean sail?)')
    assert.equal(suggestion('elephant', ['sail', 'fly']), '')
  })
})
