import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { type EffectiveConfiguration, effectiveConfiguration } from '../../src/instance/effective.ts'
import { type IdentityOptions, identity } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'

const { version: fleet } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))

/** Sets NODE_ENV until the test ends. */
function environment(t: TestContext, value: string): void {
  const { NODE_ENV } = process.env
  process.env.NODE_ENV = value
  t.after(() => {
    if (NODE_ENV === undefined) delete process.env.NODE_ENV
    else process.env.NODE_ENV = NODE_ENV
  })
}

describe('the effective configuration', () => {
  it('has the versions, the limits of the listener and the times of a shutdown', async (t) => {
    environment(t, 'test')
    const app = Fastify({ bodyLimit: 1_000, keepAliveTimeout: 2_000, requestTimeout: 3_000 })
    t.after(() => app.close())
    await app.register(lifecycle, { signals: false, drainDelayMs: 4_000, shutdownTimeoutMs: 5_000 })
    app.server.headersTimeout = 6_000
    assert.deepEqual(effectiveConfiguration(app), {
      versions: { node: process.versions.node, fastify: app.version, fleet },
      production: false,
      keepAliveTimeoutMs: 2_000,
      requestTimeoutMs: 3_000,
      headersTimeoutMs: 6_000,
      bodyLimit: 1_000,
      trustProxy: 'none',
      drainDelayMs: 4_000,
      shutdownTimeoutMs: 5_000,
    })
    environment(t, 'production')
    assert.equal(effectiveConfiguration(app).production, true)
  })

  it('of an app without fleet has what Fastify has', (t) => {
    const app = Fastify()
    t.after(() => app.close())
    const { versions, drainDelayMs, shutdownTimeoutMs, trustProxy } = effectiveConfiguration(app)
    assert.deepEqual(versions, { node: process.versions.node, fastify: app.version })
    assert.deepEqual([drainDelayMs, shutdownTimeoutMs, trustProxy], [undefined, undefined, 'none'])
  })

  it('of an HTTP/2 server has no times that only HTTP/1.1 has', (t) => {
    const app = Fastify({ http2: true }) as unknown as FastifyInstance
    t.after(() => app.close())
    const { keepAliveTimeoutMs, requestTimeoutMs, headersTimeoutMs } = effectiveConfiguration(app)
    assert.deepEqual([keepAliveTimeoutMs, requestTimeoutMs, headersTimeoutMs], [undefined, undefined, undefined])
  })
})

describe('the trusted proxies', () => {
  const trusted = async (
    t: TestContext,
    fastify: FastifyServerOptions['trustProxy'],
    own: IdentityOptions['trustProxy'],
  ): Promise<EffectiveConfiguration['trustProxy']> => {
    const app = Fastify({ trustProxy: fastify })
    t.after(() => app.close())
    await app.register(identity, { trustProxy: own })
    return effectiveConfiguration(app).trustProxy
  }

  it('are the wider of those of fleet and of Fastify', async (t) => {
    for (const [fastify, own, expected] of [
      [undefined, undefined, 'none'],
      [false, [], 'none'],
      [undefined, false, 'none'],
      [undefined, ['loopback'], 'some'],
      [undefined, 1, 'some'],
      ['127.0.0.1', undefined, 'some'],
      [2, undefined, 'some'],
      [32, undefined, 'some'],
      [true, ['loopback'], 'all'],
      [undefined, true, 'all'],
      [undefined, ['0.0.0.0/0'], 'all'],
      [() => true, undefined, 'all'],
      [(address: string) => address === '10.0.0.1', undefined, 'some'],
    ] as const)
      assert.equal(await trusted(t, fastify as never, own as never), expected, `${fastify} and ${own}`)
  })
})
