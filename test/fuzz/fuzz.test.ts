import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { describe, it } from 'node:test'
import { fuzz } from './engine/fuzz.ts'
import { fileOf, targets } from './engine/targets.ts'

/** Time for new inputs of all targets together: half of it with a fixed seed, half with a random one. */
const totalMs = 60_000

describe('no input crashes or hangs', () => {
  const ms = totalMs / targets.length / 2
  for (const name of targets) {
    it(`the ${name} target`, async (t) => {
      for (const seed of [1, randomInt(2 ** 31)]) {
        const { inputs, failure } = await fuzz({ file: fileOf(name), seed, ms })
        t.diagnostic(`${inputs} inputs with seed ${seed}`)
        const again = `npm run fuzz -- ${name} --input ${failure?.input.toString('base64')}`
        assert.equal(failure, undefined, `${failure?.kind}: ${failure?.detail}\nreproduce: ${again}`)
      }
    })
  }
})
