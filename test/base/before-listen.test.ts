import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { beforeListen } from '../../src/base/before-listen.ts'

function prepared(t: TestContext): { app: FastifyInstance; calls: string[] } {
  const app = Fastify()
  t.after(() => app.close())
  const calls: string[] = []
  const listensNow = (): string => (app.server.listening ? 'listening' : 'not yet')
  beforeListen(
    app,
    async () => void calls.push(`prepare, ${listensNow()}`),
    async () => {
      await new Promise(setImmediate)
      calls.push('undo')
    },
  )
  return { app, calls }
}

describe('an app that is prepared before it listens', () => {
  it('is ready first, and listens last', async (t) => {
    const { app, calls } = prepared(t)
    app.addHook('onReady', async () => void calls.push('ready'))
    assert.match(await app.listen({ port: 0, host: '127.0.0.1' }), /^http/)
    assert.deepEqual(calls, ['ready', 'prepare, not yet'])
  })

  it('calls back as Fastify does, once', async (t) => {
    const { app, calls } = prepared(t)
    const found: unknown[] = []
    await new Promise<void>((resolve) =>
      app.listen({ port: 0, host: '127.0.0.1' }, (error, address) => {
        found.push(error, typeof address)
        resolve()
      }),
    )
    await new Promise(setImmediate)
    assert.deepEqual([found, calls], [[null, 'string'], ['prepare, not yet']])
  })

  it('undoes the preparation if it cannot listen', async (t) => {
    const { app, calls } = prepared(t)
    const other = createServer().listen(0, '127.0.0.1')
    t.after(() => void other.close())
    await new Promise((resolve) => other.once('listening', resolve))
    const { port } = other.address() as { port: number }
    await assert.rejects(app.listen({ port, host: '127.0.0.1' }), { code: 'EADDRINUSE' })
    assert.deepEqual(calls, ['prepare, not yet', 'undo'])
  })

  it('prepares nothing if its start fails', async (t) => {
    const { app, calls } = prepared(t)
    app.addHook('onReady', async () => {
      throw new Error('no database')
    })
    await assert.rejects(app.listen({ port: 0 }), /no database/)
    assert.ok(!calls.includes('prepare, not yet'))
  })

  it('does not listen if the preparation fails, and tells the callback', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    beforeListen(app, () => Promise.reject(new Error('no lease')))
    const error = await new Promise<Error | null>((resolve) => app.listen({ port: 0 }, (failed) => resolve(failed)))
    assert.equal(error?.message, 'no lease')
    assert.equal(app.server.listening, false)
  })

  it('needs no preparation to respond to inject', async (t) => {
    const { app, calls } = prepared(t)
    app.get('/', async () => 'ok')
    assert.equal((await app.inject('/')).body, 'ok')
    assert.deepEqual(calls, [])
  })
})
