import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import { after, before, describe, test } from 'node:test'
import fastifyCookie from '@fastify/cookie'
import fastifySession from '@fastify/session'
import Fastify, { type Session } from 'fastify'
import { Redis } from 'ioredis'
import { FleetStore } from '../../../src/state/session/index.ts'
import { startRedis } from '../../helpers/redis.ts'
import { secret } from './app.ts'
import { Browser } from './browser.ts'

type ExpressRequest = IncomingMessage & {
  session: Record<'regenerate' | 'reload' | 'destroy', (done: () => void) => void> & {
    visits?: number
    userId?: string
  }
}

/** A handler for express-session: the path selects what it does with the session. */
function handle(request: ExpressRequest, response: ServerResponse): void {
  const visit = (): void => {
    const { session } = request
    session.visits = (session.visits ?? 0) + 1
    response.end(String(session.visits))
  }
  const ways: Record<string, () => void> = {
    '/login': () =>
      request.session.regenerate(() => {
        request.session.userId = 'ann'
        visit()
      }),
    '/reload': () => {
      request.session.visits = 1000
      request.session.reload(() => response.end(String(request.session.visits)))
    },
    '/logout': () => request.session.destroy(() => response.end()),
  }
  ;(ways[request.url ?? ''] ?? visit)()
}

type Express = (options: object) => (request: IncomingMessage, response: ServerResponse, next: () => void) => void

for (const engine of ['memory', 'redis'] as const) {
  describe(`FleetStore in ${engine}`, () => {
    let client: Redis | null = null
    before(async () => {
      if (engine === 'redis') client = new Redis((await startRedis()).url)
    })
    after(() => client?.quit())

    const life = 60_000
    const sample = (): Session => ({ cookie: { originalMaxAge: life, expires: new Date(Date.now() + life) }, a: [1] })
    const read = (store: FleetStore, id: string): Promise<Session | null | undefined> =>
      new Promise((resolve, reject) => store.get(id, (error, session) => (error ? reject(error) : resolve(session))))
    const call = (run: (done: (error?: unknown) => void) => void): Promise<void> =>
      new Promise((resolve, reject) => run((error) => (error ? reject(error) : resolve())))

    test('has the interface of connect-redis', async () => {
      const store = new FleetStore({ client, name: 'plain' })
      assert.equal(await read(store, 'one'), null)
      const session = sample()
      await call((done) => store.set('one', session, done))
      assert.deepEqual(await read(store, 'one'), session)
      const later = new Date(Date.now() + 2 * life)
      await call((done) => store.touch('one', { ...session, cookie: { ...session.cookie, expires: later } }, done))
      assert.deepEqual((await read(store, 'one'))?.cookie.expires, later)
      await call((done) => store.destroy('one', done))
      assert.equal(await read(store, 'one'), null)
      await call((done) => store.set('three', { a: 1 } as never, done))
      await call((done) => store.touch('three', { a: 1 } as never, done))
      assert.deepEqual(await read(store, 'three'), { a: 1, cookie: { expires: null, originalMaxAge: null } })
      await assert.rejects(
        call((done) => store.set('four', undefined as never, done)),
        TypeError,
      )
      store.set('two', { cookie: { originalMaxAge: null } })
      store.touch('two', { cookie: { originalMaxAge: null } })
      store.destroy('two')
    })

    test('works with @fastify/session', async () => {
      const app = Fastify()
      await app.register(fastifyCookie)
      const store = new FleetStore({ client, name: 'fastify' })
      await app.register(fastifySession, { secret, store, cookie: { secure: false, maxAge: life } })
      app.get('/', async ({ session }) => {
        session.visits = (session.visits ?? 0) + 1
        session.userId = 'ann'
        return { visits: session.visits }
      })
      const browser = new Browser()
      assert.deepEqual((await browser.get(app, '/')).json(), { visits: 1 })
      assert.deepEqual((await browser.get(app, '/')).json(), { visits: 2 })
      assert.equal((await store.sessions.list('ann')).length, 1)
      assert.equal(await store.sessions.destroyAll('ann'), 1)
      assert.deepEqual((await browser.get(app, '/')).json(), { visits: 1 })
      await app.close()
    })

    test('works with express-session', async () => {
      const express = createRequire(import.meta.url)('express-session') as Express
      const store = new FleetStore({ client, name: 'express' })
      const sessions = express({ secret, store, resave: false, saveUninitialized: false, cookie: { maxAge: life } })
      const server = createServer((request, response) =>
        sessions(request, response, () => handle(request as ExpressRequest, response)),
      ).listen(0, '127.0.0.1')
      await once(server, 'listening')
      const url = `http://127.0.0.1:${(server.address() as { port: number }).port}`
      let cookie = ''
      const get = async (path: string): Promise<string> => {
        const response = await fetch(url + path, { headers: { cookie } })
        cookie = response.headers.get('set-cookie')?.split(';')[0] ?? cookie
        return response.text()
      }
      for (const visits of ['1', '2', '3']) assert.equal(await get('/'), visits)
      const before = cookie
      assert.equal(await get('/login'), '1')
      assert.notEqual(cookie, before)
      assert.equal((await store.sessions.list('ann')).length, 1)
      assert.equal(await get('/'), '2')
      assert.equal(await get('/reload'), '2', 'reload() loads what was saved')
      const stolen = cookie
      await get('/logout')
      assert.deepEqual(await store.sessions.list('ann'), [])
      for (const gone of [before, stolen]) {
        cookie = gone
        assert.equal(await get('/'), '1')
      }
      server.close()
      server.closeAllConnections()
    })
  })
}
