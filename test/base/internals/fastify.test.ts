import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyServerOptions } from 'fastify'
import {
  constantOf,
  hasErrorHandler,
  hasRequestIds,
  redecorate,
  scopesBelow,
  undecorate,
} from '../../../src/base/internals/decorators.ts'
import {
  hasOwnServer,
  hasRouteConstraints,
  hasRoutes,
  hooksReachAllRoutes,
  ipOf,
  read,
  rootOf,
  serversOf,
  symbolOf,
} from '../../../src/base/internals/fastify.ts'
import { onHijack, replyPrototype } from '../../../src/base/internals/hijack.ts'
import { addHooksUntraced } from '../../../src/base/internals/otel.ts'
import { shortcuts } from '../../../src/base/internals/shortcuts.ts'

function create(t: TestContext, options: FastifyServerOptions = {}): FastifyInstance {
  const app = Fastify(options)
  t.after(() => app.close())
  return app as unknown as FastifyInstance
}
function withoutSymbols(t: TestContext): void {
  shortcuts.fastifySymbols = false
  t.after(() => {
    shortcuts.fastifySymbols = true
  })
}

describe('a symbol of another package', () => {
  it('is found by its description, on an object or its prototypes', () => {
    const [one, other] = [Symbol('described'), Symbol('described')]
    assert.equal(symbolOf(Object.create({ [one]: 1 }), 'described'), one)
    // A second version of the package has a symbol of its own.
    assert.equal(symbolOf({ [other]: 1 }, 'described'), other)
    assert.deepEqual([read({ [one]: 7 }, 'described'), read({}, 'described')], [7, undefined])
    assert.equal(symbolOf({ [Symbol('else')]: 1 }, 'other'), undefined)
  })

  it('is not looked for if the shortcut is off', (t) => {
    withoutSymbols(t)
    assert.equal(symbolOf({ [Symbol('described')]: 1 }, 'described'), undefined)
  })
})

describe('an app of Fastify', () => {
  it('has one server per address of localhost', async (t) => {
    const app = create(t)
    assert.deepEqual(serversOf(app), [app.server])
    await app.listen({ port: 0, host: 'localhost' })
    const servers = serversOf(app)
    assert.equal(servers.length, app.addresses().length)
    withoutSymbols(t)
    assert.deepEqual(serversOf(app), [app.server])
  })

  it('has a server of its own unless it was given a factory', (t) => {
    assert.equal(hasOwnServer(create(t)), true)
    assert.equal(hasOwnServer(create(t, { serverFactory: (handler) => createServer(handler) })), false)
    withoutSymbols(t)
    assert.equal(hasOwnServer(create(t)), false)
  })

  it('has routes and constraints once they are registered', async (t) => {
    const app = create(t)
    assert.deepEqual([hasRoutes(app), hasRouteConstraints(app), hooksReachAllRoutes(app)], [false, false, true])
    await app.register(async (scope) => {
      assert.equal(hooksReachAllRoutes(scope), false)
    })
    app.get('/a', async () => 'a')
    assert.deepEqual([hasRoutes(app), hasRouteConstraints(app), hooksReachAllRoutes(app)], [true, false, false])
    app.get('/b', { constraints: { host: 'b.example' } }, async () => 'b')
    assert.equal(hasRouteConstraints(app), true)
  })

  it('is the root of its scopes, which are below it', async (t) => {
    const app = create(t)
    let deep = app
    let middle = app
    await app.register(async (child) => {
      middle = child
      await child.register(async (grandchild) => {
        deep = grandchild
      })
    })
    assert.deepEqual([rootOf(deep) === app, rootOf(app) === app, deep === app], [true, true, false])
    assert.deepEqual(scopesBelow(app), [middle, deep])
    assert.deepEqual(scopesBelow(deep), [])
  })

  it('tells what `request.ip` will be', (t) => {
    assert.equal(ipOf(create(t), '10.0.0.1', '1.1.1.1'), '10.0.0.1')
    assert.equal(ipOf(create(t, { trustProxy: true }), '10.0.0.1', '1.1.1.1'), '1.1.1.1')
    const trustProxy = (): never => {
      throw new Error('no request')
    }
    assert.equal(ipOf(create(t, { trustProxy }), '10.0.0.1', '1.1.1.1'), undefined)
    withoutSymbols(t)
    assert.equal(ipOf(create(t), '10.0.0.1', '1.1.1.1'), undefined)
  })

  it('tells whether it has an error handler and request ids of its own', (t) => {
    const app = create(t)
    assert.deepEqual([hasErrorHandler(app), hasRequestIds(app)], [false, false])
    app.setErrorHandler(async () => 'error')
    assert.equal(hasErrorHandler(app), true)
    assert.equal(hasRequestIds(create(t, { genReqId: () => 'own' })), true)
    assert.equal(hasRequestIds(create(t, { requestIdHeader: 'x-id' })), true)
  })
})

describe('a decorator', () => {
  for (const kind of ['instance', 'request', 'reply'] as const)
    it(`of the ${kind} can be removed, so that its name is free`, async (t) => {
      const app = create(t)
      const decorate = (value: unknown): unknown => {
        if (kind === 'instance') return app.decorate('own', value as never)
        return kind === 'request'
          ? app.decorateRequest('own', value as never)
          : app.decorateReply('own', value as never)
      }
      decorate(1)
      undecorate(app, kind, 'own')
      undecorate(app, kind, 'never')
      decorate(2)
      app.decorateRequest('other', 3 as never)
      app.get('/', async (request, reply) => {
        const of = { instance: app, request, reply }[kind] as unknown as { own: number }
        return { own: of.own, other: (request as unknown as { other: number }).other }
      })
      assert.deepEqual((await app.inject('/')).json(), { own: 2, other: 3 })
    })

  it('with a value in the list of a request is removed from that list only', async (t) => {
    const app = create(t)
    for (const name of ['a', 'b', 'c']) app.decorateRequest(name, null)
    undecorate(app, 'request', 'b')
    app.get('/', async (request) => ['a', 'b', 'c'].map((name) => name in request))
    assert.deepEqual((await app.inject('/')).json(), [true, false, true])
  })

  it('becomes an accessor that can be removed', async (t) => {
    const app = create(t)
    app.decorateRequest('own', () => 1)
    app.decorate('mine', () => 1)
    const set: unknown[] = []
    const accessor = { getter: () => 'read', setter: (value: unknown) => void set.push(value) }
    redecorate(app, 'request', 'own', accessor)
    redecorate(app, 'instance', 'mine', accessor)
    assert.equal((app as unknown as { mine: string }).mine, 'read')
    app.get('/', async (request) => {
      Object.assign(request, { own: 'x' })
      return (request as unknown as { own: string }).own
    })
    assert.equal((await app.inject('/')).body, 'read')
    assert.deepEqual(set, ['x'])
    undecorate(app, 'instance', 'mine')
    assert.equal('mine' in app, false)
  })

  it('is a constant if it does not depend on the request', (t) => {
    const app = create(t)
    const own = (): number => 7
    app.decorateRequest('own', own)
    app.decorateRequest('computed', {
      getter() {
        return (this as unknown as { raw: { url: string } }).raw.url
      },
    })
    assert.deepEqual(
      [constantOf(app, 'own'), constantOf(app, 'computed'), constantOf(app, 'none')],
      [own, undefined, undefined],
    )
    withoutSymbols(t)
    assert.equal(constantOf(app, 'own'), undefined)
    undecorate(app, 'request', 'own')
    redecorate(app, 'request', 'own', {})
  })
})

describe('a reply that its handler hijacks', () => {
  for (const usable of [true, false])
    it(`is reported once, ${usable ? 'by its prototype' : 'by a hook without the symbol'}`, async (t) => {
      if (!usable) withoutSymbols(t)
      const [app, other] = [create(t), create(t)]
      const seen: FastifyReply[] = []
      onHijack(app, (reply) => seen.push(reply))
      for (const each of [app, other]) {
        each.get('/', async (_request, reply) => {
          reply.hijack()
          reply.raw.end(String(reply.sent))
        })
        each.get('/plain', async () => 'plain')
      }
      assert.equal((await app.inject('/')).body, 'true')
      assert.equal(seen.length, 1)
      await app.inject('/plain')
      assert.equal((await other.inject('/')).body, 'true')
      assert.equal(seen.length, 1)
    })

  it('has a prototype that no other app shares', (t) => {
    const [one, other] = [create(t), create(t)]
    assert.ok(replyPrototype(one))
    assert.equal(replyPrototype(one), replyPrototype(one))
    assert.notEqual(replyPrototype(one), replyPrototype(other))
  })
})

describe('hooks without spans', () => {
  const original = Symbol('fastify otel addhook original')

  it('are added by the original `addHook` until that ends', () => {
    const calls: string[] = []
    for (const own of [true, false]) {
      const parent = { addHook: () => calls.push('traced'), [original]: () => calls.push('original') }
      const app = (own ? parent : Object.create(parent)) as FastifyInstance & { addHook(): void }
      const end = addHooksUntraced(app)
      app.addHook()
      end()
      app.addHook()
      assert.equal(Object.hasOwn(app, 'addHook'), own)
    }
    assert.deepEqual(calls, ['original', 'traced', 'original', 'traced'])
  })

  it('are plain hooks without tracing', (t) => {
    const app = create(t)
    const { addHook } = app
    addHooksUntraced(app)()
    assert.equal(app.addHook, addHook)
  })
})
