import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fuzz } from './engine/fuzz.ts'
import { fileOf, targets } from './engine/targets.ts'

/** Time for new inputs of all targets together. The seed is fixed: a commit fails for what it changes. `npm run fuzz` draws one. */
const totalMs = 60_000

describe('no input crashes or hangs', () => {
  const ms = totalMs / targets.length
  for (const name of targets) {
    it(`the ${name} target`, async (t) => {
      const { inputs, failure } = await fuzz({ file: fileOf(name), seed: 1, ms })
      t.diagnostic(`${inputs} inputs`)
      const again = `npm run fuzz -- ${name} --input ${failure?.input.toString('base64')}`
      assert.equal(failure, undefined, `${failure?.kind}: ${failure?.detail}\nreproduce: ${again}`)
    })
  }
})
