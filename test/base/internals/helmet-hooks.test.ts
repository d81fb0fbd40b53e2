import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FastifyHelmetOptions } from '@fastify/helmet'
import Fastify, { type FastifyPluginAsync, type onRequestHookHandler } from 'fastify'
import { helmetHooks } from '../../../src/base/internals/helmet-hooks.ts'

type Plugin = FastifyPluginAsync<FastifyHelmetOptions>
const none: onRequestHookHandler = (_request, _reply, done) => done()
const withHooks =
  (...hooks: onRequestHookHandler[]): Plugin =>
  async (app) => {
    for (const hook of hooks) app.addHook('onRequest', hook)
  }

test('computes the headers of the expected hooks once', async () => {
  const apply: onRequestHookHandler = (_request, reply) => void reply.raw.setHeader('x-one', '1')
  const hooks = await helmetHooks(withHooks(none, apply), Fastify(), {})
  assert.deepEqual(hooks?.headers, [['x-one', '1']])
})

test('selects the unchanged plugin if its hooks are others', async () => {
  const needsMore: onRequestHookHandler = async (request) => void request.headers.host?.length
  const changed: Record<string, Plugin> = {
    one: withHooks(none),
    three: withHooks(none, none, none),
    'a hook that needs the whole request': withHooks(none, needsMore),
  }
  for (const [name, plugin] of Object.entries(changed)) {
    assert.equal(await helmetHooks(plugin, Fastify(), {}), undefined, name)
  }
})
