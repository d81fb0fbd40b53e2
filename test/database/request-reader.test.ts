import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { RequestReader } from '../../src/database/own-writes.ts'

const mayBeSaved = Symbol.for('fleet.session.mayBeSaved')
const start = Date.parse('2026-01-01T00:00:00Z')
const at36 = (ms: number): string => Math.floor((start + ms) / 1000).toString(36)
type Session = Record<string | symbol, unknown>

/** A request with a session whose clock the test sets. */
function open(t: TestContext, session?: Session | null, more: { secure?: boolean | 'auto'; cookie?: string } = {}) {
  let now = start
  let uptime = 1_000
  t.mock.method(Date, 'now', () => now)
  t.mock.method(performance, 'now', () => uptime)
  const router = {
    position: async (): Promise<number> => 1_000,
    replayed: 0,
    set: { hasReplayed: (position: number) => router.replayed >= position },
  }
  const warnings: string[] = []
  const settings = {
    ...{ router: router as never, secrets: ['s'.repeat(32)], cookieName: 'wal', keepMs: 60_000 },
    ...{ secure: more.secure ?? false, warnInsecure: () => void warnings.push('insecure') },
  }
  const headers = more.cookie === undefined ? {} : { cookie: more.cookie }
  const request = { session, headers, socket: {}, raw: { socket: {} }, protocol: 'http' }
  const cookies: [name: string, value: string, options: object][] = []
  const reply = (statusCode = 200) =>
    ({
      statusCode,
      request,
      setCookie: (...args: [string, string, object]) => cookies.push(args),
    }) as never
  const reader = new RequestReader(request as never, settings)
  const pass = (ms: number): void => {
    now += ms
    uptime += ms
  }
  const setClock = (ms: number): void => {
    now += ms
  }
  return { reader, reply, router, cookies, warnings, pass, setClock }
}

describe('the position of a request’s writes', () => {
  it('must be kept after a write, until it is, and again after another write', async (t) => {
    const { reader, reply } = open(t, { a: 1 })
    assert.equal(reader.mustKeep(reply()), false)
    reader.writes()
    assert.equal(reader.mustKeep(reply()), true)
    await reader.keep(reply(), false)
    assert.deepEqual([reader.mustKeep(reply(200)), reader.mustKeep(reply(499))], [false, false])
    assert.equal(reader.mustKeep(reply(500)), true, 'the session of a failed response is not saved')
    reader.writes()
    assert.equal(reader.mustKeep(reply()), true)
  })

  it('must be kept again after a write during the query for the position', async (t) => {
    for (const session of [{ a: 1 }, undefined]) {
      const { reader, reply, router } = open(t, session)
      const asked = Promise.withResolvers<number>()
      router.position = () => asked.promise
      reader.writes()
      const kept = reader.keep(reply(), false)
      reader.writes()
      asked.resolve(1_000)
      await kept
      assert.equal(reader.mustKeep(reply()), true)
      t.mock.restoreAll()
    }
  })

  it('is kept in a cookie of a failed response, once', async (t) => {
    const { reader, reply, cookies } = open(t, { a: 1 })
    reader.writes()
    await reader.keep(reply(500), false)
    assert.deepEqual([cookies.length, reader.mustKeep(reply(500))], [1, false])
  })

  it('is kept in a session with data, which is saved again only if it was', async (t) => {
    let saves = 0
    const session: Session = { a: 1, save: async () => void saves++ }
    const { reader, reply, cookies, pass } = open(t, session)
    reader.writes()
    pass(1_999)
    await reader.keep(reply(), false)
    assert.deepEqual([session.walPosition, saves, cookies], [`${(1_000).toString(36)}.${at36(1_999)}`, 0, []])
    await reader.keep(reply(), true)
    assert.equal(saves, 1)
  })

  it('is kept in a session of another plugin without save()', async (t) => {
    const session: Session = { a: 1 }
    const { reader, reply } = open(t, session)
    await reader.keep(reply(), true)
    assert.equal(typeof session.walPosition, 'string')
  })

  for (const [what, session] of [
    ['no session', undefined],
    ['a session that was destroyed', null],
    ['a session without data', { cookie: {} }],
    ['a session that only inherits data', Object.create({ a: 1 })],
    ['a session that will not be saved', { a: 1, [mayBeSaved]: false }],
  ] as [string, Session][])
    it(`is kept in a cookie with ${what}`, async (t) => {
      const { reader, reply, cookies } = open(t, session)
      reader.writes()
      await reader.keep(reply(), true)
      assert.equal(session?.walPosition, undefined)
      const [name, value, options] = cookies[0] ?? []
      assert.deepEqual([name, cookies.length], ['wal', 1])
      assert.match(String(value), new RegExp(`^rs\\.${at36(0)}\\.[\\w-]{22}$`))
      assert.deepEqual(options, { path: '/', httpOnly: true, sameSite: 'lax', maxAge: 60, secure: false })
    })

  it('warns if the cookie is Secure and the request came without TLS', async (t) => {
    for (const [secure, count] of [
      [true, 1],
      [false, 0],
      ['auto', 0],
    ] as const) {
      const { reader, reply, warnings } = open(t, undefined, { secure })
      reader.writes()
      await reader.keep(reply(), false)
      assert.equal(warnings.length, count, String(secure))
      t.mock.restoreAll()
    }
  })

  it('is unknown if the primary does not tell it, so that only the primary serves reads', async (t) => {
    const session: Session = { a: 1 }
    const { reader, reply, router } = open(t, session)
    router.position = () => Promise.reject(new Error('no primary'))
    reader.writes()
    await reader.keep(reply(), false)
    assert.equal(session.walPosition, `x.${at36(0)}`)
    t.mock.restoreAll()
    assert.equal(open(t, session).reader.position(), Number.POSITIVE_INFINITY)
  })
})

describe('the position that a request came with', () => {
  const positionOf = (t: TestContext, walPosition: unknown, ms = 0): number => {
    const { reader, pass } = open(t, { walPosition })
    pass(ms)
    const position = reader.position()
    t.mock.restoreAll()
    return position
  }

  it('stays the same for a request that lasts longer than keepMs', (t) => {
    const { reader, pass } = open(t, { walPosition: `${(1_000).toString(36)}.${at36(0)}` })
    assert.equal(reader.position(), 1_000)
    pass(180_000)
    assert.equal(reader.position(), 1_000)
  })

  it('is that of the session, however much the clocks of the instances differ', (t) => {
    const text = `rs.${at36(0)}`
    for (const ms of [0, 60_001, -60_001, 3_600_000, -3_600_000])
      assert.equal(positionOf(t, text, ms), 1_000, `${ms} ms`)
  })

  it('of a session is replaced once it is old, unless a replica has replayed it', async (t) => {
    const cases: [what: string, walPosition: string, ms: number, replayed: number, replaced: boolean][] = [
      ['recent', `rt.${at36(0)}`, 60_000, 0, false],
      ['by a clock that is behind', `rt.${at36(0)}`, -60_000, 0, false],
      ['old', `rt.${at36(0)}`, 60_001, 1_000, true],
      ['of the future', `rt.${at36(0)}`, -60_001, 1_000, true],
      ['old and replayed', `rt.${at36(0)}`, 60_001, 1_001, false],
      ['unknown', `x.${at36(0)}`, 0, 1_001, true],
    ]
    for (const [what, walPosition, ms, replayed, replaced] of cases) {
      const session: Session = { a: 1, walPosition }
      const { reader, reply, router, cookies, setClock } = open(t, session)
      router.replayed = replayed
      setClock(ms)
      assert.equal(reader.mustKeep(reply()), false, 'it has not been read')
      reader.position()
      assert.deepEqual([reader.mustKeep(reply()), reader.mustKeep(reply(500))], [replaced, false], what)
      if (replaced) {
        await reader.keep(reply(), false)
        assert.equal(session.walPosition, `rs.${at36(ms)}`, what)
        assert.equal(reader.mustKeep(reply()), false)
      }
      assert.deepEqual(cookies, [])
      t.mock.restoreAll()
    }
  })

  it('of a session stays while the primary does not tell a better one', async (t) => {
    for (const walPosition of [`x.${at36(0)}`, `rt.${at36(-61_000)}`]) {
      const session: Session = { a: 1, walPosition }
      const { reader, reply, router, cookies } = open(t, session)
      router.position = () => Promise.reject(new Error('no primary'))
      reader.position()
      assert.equal(reader.mustKeep(reply()), true)
      await reader.keep(reply(), true)
      assert.deepEqual([session.walPosition, cookies, reader.mustKeep(reply())], [walPosition, [], false])
      t.mock.restoreAll()
    }
  })

  it('of a session that ended during the request is not stored', async (t) => {
    const session: Session = { a: 1, walPosition: `x.${at36(0)}` }
    const { reader, reply, cookies } = open(t, session)
    reader.position()
    delete session.a
    delete session.walPosition
    await reader.keep(reply(), false)
    assert.deepEqual([session, cookies, reader.mustKeep(reply())], [{}, [], false])
  })

  it('is none in another form', (t) => {
    const at = at36(0)
    for (const text of [
      undefined,
      7,
      null,
      '',
      'rs',
      `.${at}`,
      'rs.',
      `RS.${at}`,
      `${'z'.repeat(12)}.${at}`,
      `rs.${at}.x`,
    ])
      assert.equal(positionOf(t, text), 0, String(text))
    assert.equal(positionOf(t, `${'z'.repeat(11)}.${at}`), Number.parseInt('z'.repeat(11), 36))
  })

  it('is the later of session and cookies, and none of those without a valid signature', async (t) => {
    const { reader, reply, cookies } = open(t)
    reader.writes()
    await reader.keep(reply(), false)
    t.mock.restoreAll()
    const value = cookies[0]?.[1] ?? ''
    const of = (cookie: string, session?: Session): number => {
      const position = open(t, session, { cookie }).reader.position()
      t.mock.restoreAll()
      return position
    }
    assert.equal(of(`wal=${value}`), 1_000)
    assert.equal(of(`wal=x.y.z; wal=${value}; wal=old`), 1_000)
    assert.equal(of(`wal=${value}`, { walPosition: `rt.${at36(0)}` }), 1_001)
    assert.equal(of(`wal=${value}`, { walPosition: `rr.${at36(0)}` }), 1_000)
    for (const other of [`rt${value.slice(2)}`, value.slice(0, -1), `${value}A`, 'wal', `rs.${at36(0)}`, ''])
      assert.equal(of(`wal=${other}`), 0, other)
    assert.equal(of(`other=${value}`), 0)
  })

  it('of a cookie is not replaced, since the cookie ends', async (t) => {
    const { reader, reply, router, cookies } = open(t)
    router.position = () => Promise.reject(new Error('no primary'))
    reader.writes()
    await reader.keep(reply(), false)
    t.mock.restoreAll()
    for (const walPosition of [undefined, `x.${at36(0)}`, `rs.${at36(-61_000)}`]) {
      const next = open(t, { a: 1, walPosition }, { cookie: `wal=${cookies[0]?.[1]}` })
      assert.equal(next.reader.position(), Number.POSITIVE_INFINITY)
      assert.equal(next.reader.mustKeep(reply()), false)
      t.mock.restoreAll()
    }
  })

  it('is infinite after a write of this request, for keepMs', (t) => {
    const { reader, pass } = open(t)
    assert.equal(reader.position(), 0)
    reader.writes()
    pass(60_000)
    assert.equal(reader.position(), Number.POSITIVE_INFINITY)
    pass(1)
    assert.equal(reader.position(), 0)
  })
})
