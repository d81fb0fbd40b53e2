import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import Fastify, { type FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { ensure } from '../../src/base/ensure.ts'

function countingPlugin(): { plugin: FastifyPluginAsync<{ size?: number }>; options: object[] } {
  const options: object[] = []
  const plugin: FastifyPluginAsync<{ size?: number }> = fp(async (_app, given) => void options.push(given), {
    name: 'counting',
  })
  return { plugin, options }
}

describe('ensure', () => {
  it('registers a missing plugin once, with its defaults', async () => {
    const { plugin, options } = countingPlugin()
    const app = Fastify()
    await ensure(app, plugin)
    await ensure(app, plugin, plugin)
    assert.deepEqual(options, [{}])
  })

  it('keeps a plugin that was registered with options, also in a parent scope', async () => {
    const { plugin, options } = countingPlugin()
    const app = Fastify()
    await app.register(plugin, { size: 2 })
    await app.register(async (scope) => await ensure(scope, plugin))
    assert.deepEqual(options, [{ size: 2 }])
  })

  it('rejects a plugin without a name', async () => {
    await assert.rejects(
      ensure(Fastify(), async () => undefined),
      /must have a name/,
    )
  })
})
