import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { FleetError } from '../../../src/base/errors.ts'
import { type Handler, recorded, signed } from './recorded.ts'

describe('session.save()', () => {
  test('writes now, and again only what changes afterwards', async (t) => {
    const { send, stored } = await recorded(t)
    const saved: boolean[] = []
    const { calls, sent, body } = await send(async ({ session }) => {
      session.a = 1
      saved.push(session.isSaved())
      await session.save()
      saved.push(session.isSaved(), session.isModified())
      session.b = 2
      return { id: session.sessionId }
    })
    assert.deepEqual(
      [saved, calls],
      [
        [false, true, false],
        ['write', 'merge "b"'],
      ],
    )
    assert.deepEqual(stored(body.id), { a: 1, b: 2 })
    assert.ok(sent)
  })

  test('writes a cookie that a handler changed once', async (t) => {
    const { send } = await recorded(t)
    const { calls } = await send(async ({ session }) => {
      session.a = 1
      session.cookie.maxAge = 600_000
      await session.save()
      session.b = 2
      await session.save()
    })
    assert.deepEqual(calls, ['write', 'merge "b"'])
  })

  test('calls back, with the error if there is one', async (t) => {
    const { send, store } = await recorded(t)
    const errors: unknown[] = []
    const save: Handler = ({ session }) =>
      new Promise<void>((resolve) => {
        session.a = 1
        session.save((error: unknown) => {
          errors.push((error as { code?: string } | null)?.code ?? error)
          resolve()
        })
      })
    await send(save)
    store.unavailable = /write/
    await send(save)
    assert.deepEqual(errors, [null, 'FLEET_ERR_STATE_UNAVAILABLE'])
  })

  test('does not recreate a session that has ended meanwhile', async (t) => {
    const { send, put, store, stored } = await recorded(t)
    const cookie = put('s')
    const { body, sent } = await send(
      async ({ session }) => {
        session.b = 2
        store.destroy('s')
        await session.save()
        return { saved: session.isSaved() }
      },
      [cookie],
    )
    assert.deepEqual([body, stored('s'), sent], [{ saved: false }, null, undefined])
  })
})

describe('session.reload()', () => {
  test('drops the changes of the request and loads those of others', async (t) => {
    const { send, put } = await recorded(t)
    const cookie = put('s')
    const { body, calls } = await send(
      async (request) => {
        request.session.a = 7
        put('s', '"c":3')
        await request.session.reload()
        return { ...request.session }
      },
      [cookie],
    )
    assert.deepEqual([body, calls], [{ c: 3 }, ['read', 'read']])
  })

  test('keeps that the session was saved, so that its client gets the cookie', async (t) => {
    const { send } = await recorded(t)
    const { body, sent } = await send(async (request) => {
      request.session.a = 1
      await request.session.save()
      await request.session.reload()
      return { a: request.session.a, saved: request.session.isSaved() }
    })
    assert.deepEqual(body, { a: 1, saved: true })
    assert.ok(sent?.value)
  })
})

describe('session.regenerate()', () => {
  test('writes the new session before it ends the old one, with the named fields', async (t) => {
    const { send, put, stored } = await recorded(t)
    const cookie = put('s', '"a":1\n,"b":2\n,"c":3')
    const { calls, body, sent } = await send(
      async (request) => {
        await request.session.regenerate(['a', 'c'])
        return { id: request.session.sessionId, saved: request.session.isSaved(), data: { ...request.session } }
      },
      [cookie],
    )
    assert.deepEqual(calls, ['read', 'write', 'destroy'])
    assert.deepEqual([body.saved, body.data, stored('s')], [true, { a: 1, c: 3 }, null])
    assert.notEqual(body.id, 's')
    assert.deepEqual(stored(body.id), { a: 1, c: 3 })
    assert.equal(sent?.value, signed(body.id))
  })

  test('of a session that is not stored ends nothing', async (t) => {
    const { send } = await recorded(t)
    assert.deepEqual((await send((request) => request.session.regenerate())).calls, ['write'])
  })

  test('keeps the options of the old cookie', async (t) => {
    const { send, put } = await recorded(t)
    const cookie = put('s', '"a":1', '{"expires":9e12,"originalMaxAge":600000,"sameSite":"strict"}')
    const { sent } = await send((request) => request.session.regenerate(['a']), [cookie])
    assert.equal(sent?.sameSite, 'Strict')
    assert.ok(Math.abs(Number(sent?.expires) - Date.now() - 600_000) < 60_000)
  })

  test('calls back, with fields or without', async (t) => {
    const { send } = await recorded(t)
    for (const given of [[], [['a']]]) {
      const { body } = await send(
        (request) =>
          new Promise((resolve) => {
            request.session.a = 1
            const done = (error: unknown): void => resolve({ error, data: { ...request.session } })
            ;(request.session.regenerate as (...args: unknown[]) => void)(...given, done)
          }),
      )
      assert.deepEqual(body, { error: null, data: given.length > 0 ? { a: 1 } : {} })
    }
  })
})

describe('session.destroy()', () => {
  test('ends the session, leaves none, and clears the cookie of a client that sent one', async (t) => {
    const { send, put, stored } = await recorded(t)
    const cookie = put('s')
    const destroy: Handler = async (request) => {
      await request.session.destroy()
      return { session: request.session }
    }
    const { body, calls, sent } = await send(destroy, [cookie])
    assert.deepEqual([body, calls, stored('s')], [{ session: null }, ['read', 'destroy'], null])
    assert.deepEqual([sent?.value, sent?.expires?.getTime()], ['', 0])
    assert.equal((await send(destroy)).sent, undefined)
  })
})

describe('app.decryptSession()', () => {
  const load = (app: object, cookie: string, options?: object): Promise<{ session: Record<string, unknown> }> =>
    new Promise((resolve, reject) => {
      const request = { headers: {} } as never
      const done = (error?: unknown): void => (error ? reject(error) : resolve(request))
      ;(app as { decryptSession: (...args: unknown[]) => void }).decryptSession(
        cookie,
        request,
        ...(options ? [options] : []),
        done,
      )
    })

  test('sets the session of a cookie, and a new one for any other text', async (t) => {
    const { app, put, store } = await recorded(t)
    const cookie = put('s')
    const { session } = await load(app, cookie)
    assert.deepEqual([session.sessionId, session.a], ['s', 1])
    for (const other of ['', 'x', signed('gone'), `${cookie}x`]) {
      const { session } = await load(app, other)
      assert.deepEqual([{ ...session }, session.sessionId === 's'], [{}, false])
    }
    const { session: own } = await load(app, '', { maxAge: 5_000, path: '/own' })
    const { originalMaxAge, path } = own.cookie as { originalMaxAge: number; path: string }
    assert.deepEqual([originalMaxAge, path], [5_000, '/own'])
    store.unavailable = /read/
    await assert.rejects(load(app, cookie), { code: 'FLEET_ERR_STATE_UNAVAILABLE' })
  })
})

describe('session.options()', () => {
  test('replace those that the handler has read, and extend the lifetime even if they are the same', async (t) => {
    const { send, put } = await recorded(t)
    const none = '{"expires":null,"originalMaxAge":null,"at":9e15}'
    const options =
      (given: object): Handler =>
      ({ session }) => {
        const { maxAge } = session.cookie
        session.options(given)
        return { before: maxAge !== null, after: session.cookie.originalMaxAge, path: session.cookie.path }
      }
    const { body, calls } = await send(options({ maxAge: 5_000, path: '/x' }), [put('s', '"a":1', none)])
    assert.deepEqual([body.after, body.path, calls], [5_000, '/x', ['read', 'merge "cookie"']])
    const same = await send(options({ path: '/' }), [put('s', '"a":1', none)])
    assert.deepEqual(same.calls, ['read', 'merge "cookie"'])
  })
})

test('a session that is reloaded after its end has the signed id of the new session', async (t) => {
  const { send, put, store } = await recorded(t)
  const { body } = await send(
    async (request) => {
      store.destroy('s')
      await request.session.reload()
      const { sessionId, encryptedSessionId } = request.session
      return { sessionId, encryptedSessionId }
    },
    [put('s')],
  )
  assert.notEqual(body.sessionId, 's')
  assert.equal(body.encryptedSessionId, signed(body.sessionId))
})

test('a save that the store rejects is not repeated for the error response', async (t) => {
  const { send, put, store } = await recorded(t)
  const merge = t.mock.method(store, 'merge', () => {
    throw new FleetError('FLEET_ERR_SESSION_TOO_LARGE')
  })
  const { status, body } = await send(
    ({ session }) => {
      session.b = 1
    },
    [put('s')],
  )
  assert.deepEqual([status, body.code, merge.mock.callCount()], [413, 'FLEET_ERR_SESSION_TOO_LARGE', 1])
})
