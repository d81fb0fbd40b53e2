import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Choices } from './engine/choices.ts'
import { fuzz } from './engine/fuzz.ts'
import { Random } from './engine/random.ts'

const fixture = (name: string): string => new URL(`./fixtures/${name}.ts`, import.meta.url).href

describe('the fuzzer', () => {
  it('finds an input that throws, and minimises it', async () => {
    const { failure } = await fuzz({ file: fixture('crashing'), seed: 1, ms: 60_000 })
    assert.equal(failure?.kind, 'crash')
    assert.equal(failure.input.toString(), 'boom!')
    assert.match(failure.detail, /TypeError: it went off/)
  })

  it('reproduces a failure from its input', async () => {
    const { failure } = await fuzz({ file: fixture('crashing'), seed: 2, ms: 0, inputs: [Buffer.from('boom!')] })
    assert.equal(failure?.kind, 'crash')
  })

  it('stops an input that never returns, and minimises it', async () => {
    const { failure } = await fuzz({ file: fixture('hanging'), seed: 1, ms: 0, inputMs: 500 })
    assert.equal(failure?.kind, 'hang')
    assert.equal(failure.input.toString(), 'x')
  })

  it('reports an exception in a callback', async () => {
    const { failure } = await fuzz({ file: fixture('late'), seed: 1, ms: 0 })
    assert.equal(failure?.kind, 'crash')
    assert.match(failure.detail, /not caught/)
  })

  it('generates the same numbers from the same seed', () => {
    const draw = (seed: number): number[] => {
      const random = new Random(seed)
      return Array.from({ length: 20 }, () => random.below(1000))
    }
    assert.deepEqual(draw(7), draw(7))
    assert.notDeepEqual(draw(7), draw(8))
  })

  it('derives the same value from the same bytes', () => {
    const bytes = Buffer.from('\x06\x03\x01\x02\x00\x04\x05hello', 'latin1')
    assert.deepEqual(new Choices(bytes).value(true), new Choices(bytes).value(true))
  })
})
