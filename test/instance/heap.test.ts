import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { oldGenerationLimit } from '../../src/instance/health/heap.ts'

const run = promisify(execFile)
const mib = 2 ** 20
const source = new URL('../../src/instance/health', import.meta.url).href

describe('the limit of the old generation', () => {
  // Measured with containers of 512 MiB, 1, 3, 4 and 24 GiB, by Node 22 and 24.
  for (const [v8, table] of [
    ['12.4.254.21-node.33', { 259: 256, 524: 512, 1584: 1536, 2096: 2048, 4144: 4096 }],
    ['13.6.233.10-node.28', { 259: 256, 560: 512, 1728: 1536, 2240: 2048, 4288: 4096 }],
  ] as const)
    for (const [total, limit] of Object.entries(table))
      it(`is ${limit} of ${total} MiB for V8 ${v8.slice(0, 4)}`, () => {
        assert.equal(oldGenerationLimit(Number(total) * mib, '', v8), limit * mib)
      })

  for (const [options, total, limit] of [
    ['--max-old-space-size=128', 320, 128],
    ['--max_old_space_size 128', 320, 128],
    ['--max-old-space-size=128 --title=x --max-old-space-size=512', 704, 512],
    ['--max-semi-space-size=8', 4120, 4096],
    ['--max-old-space-size-percentage=50', 704, 512],
    ['--max-old-space-size-percentage=5', 200, 50],
    ['--max-semi-space-size=1000', 4000, 1000],
  ] as const)
    it(`is ${limit} of ${total} MiB with ${options}`, () => {
      assert.equal(oldGenerationLimit(total * mib, options, '13.6'), limit * mib)
    })

  for (const options of [[], ['--max-old-space-size=80'], ['--max-semi-space-size=4']])
    it(`is that of this Node with ${options.join() || 'no option'}`, async () => {
      const print = `const { heapUse } = await import('${source}/heap.ts'); console.log(heapUse().limit)`
      const limit = async (...more: string[]): Promise<number> => {
        const { stdout } = await run(process.execPath, [...options, ...more, '--input-type=module', '-e', print])
        return Number(stdout)
      }
      // The smallest semi-space leaves all but 3 MiB.
      assert.equal(await limit(), await limit('--max-semi-space-size=1'))
    })
})

it('the memory check fails before a full heap ends the process', async () => {
  const fill = `
    const { memoryCheck } = await import('${source}/checks.ts')
    const check = memoryCheck({ maxHeapShare: 0.9, maxRssShare: 1 })
    const kept = []
    try {
      for (;;) {
        kept.push(Array.from({ length: 1000 }, (_, n) => ({ n })))
        check()
      }
    } catch (error) {
      console.log(error.message)
    }`
  // V8 moves survivors of the young generation all at once, so a small one keeps each step below the share that is left.
  const options = ['--max-old-space-size=64', '--max-semi-space-size=1', '--input-type=module']
  const { stdout } = await run(process.execPath, [...options, '-e', fill])
  assert.match(stdout, new RegExp(`^heap: \\d+ of ${64 * mib} bytes$`, 'm'))
})
