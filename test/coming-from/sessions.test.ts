import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Redis } from 'ioredis'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { Browser, filesOf, Project, type Running } from './pages.ts'

const nobody = { status: 401, body: { error: 'not logged in' } }
const user = (theme?: string): object => ({ status: 200, body: { user: 'ada', ...(theme && { theme }) } })

/** A file of a page with a change that the page describes. */
function edited(page: string, name: string, from: string, to: string): string {
  const code = filesOf(page)[name] ?? ''
  assert.ok(code.includes(from), `${name} has ${from}`)
  return code.replace(from, to)
}

describe('pages about sessions', { concurrency: 3 }, () => {
  let project: Project
  let server: string
  let database = 0
  const clients: Redis[] = []

  before(async () => {
    server = (await startRedis()).url
    project = await Project.with(['express@5', 'express-session@1', 'connect-redis@10', 'redis@6'])
  })
  after(() => clients.map((client) => client.disconnect()))

  /** Starts files of a page, some of them changed, with a database of their own. */
  const startAll = async (page: string, names: string[], changed: Record<string, string> = {}) => {
    const url = `${server}/${++database}`
    const redis = new Redis(url)
    clients.push(redis)
    const folder = project.write(page, changed)
    const apps = await Promise.all(names.map((name) => project.start(`${folder}/${name}`, { REDIS_URL: url })))
    return { redis, apps: apps as [Running, Running, Running, Running, Running] }
  }

  it('express-session: accepts an old short secret, and signs with the new one', async () => {
    const old = edited('express-session.md', 'before.js', 'process.env.SESSION_SECRET', "'keyboard cat'")
    const own = edited('express-session.md', 'after.js', 'session: {', 'session: { secret,')
    const { apps } = await startAll('express-session.md', ['before.js', 'after.js'], {
      'before.js': old,
      'after.js': `import { secret } from './signer.js'\n${own}`,
    })
    const browser = new Browser()
    await browser.send(`${apps[0].url}/login`, { name: 'ada' })
    const { cookies } = new Browser(browser.cookies)
    assert.deepEqual(await browser.send(`${apps[1].url}/me`), user())
    assert.notDeepEqual(browser.cookies, cookies)
    assert.deepEqual(await browser.send(`${apps[1].url}/me`), user())
  })

  it('express-session: a session without maxAge is extended by a visit with `rolling` only', async () => {
    const own = edited('express-session.md', 'after.js', 'cookieName', 'cookie: { maxAge: null }, cookieName')
    const { redis, apps } = await startAll('express-session.md', ['before.js', 'after.js', 'rolling.js'], {
      'before.js': edited('express-session.md', 'before.js', 'cookie: { maxAge: 86_400_000 }', 'cookie: {}'),
      'after.js': own,
      'rolling.js': own.replace('session: {', 'session: { rolling: true,'),
    })
    const browser = new Browser()
    await browser.send(`${apps[0].url}/login`, { name: 'ada' })
    const key = `sess:${idOf(browser, 'connect.sid')}`
    const extends_ = async ({ url }: Running): Promise<boolean> => {
      await redis.expire(key, 1000)
      assert.deepEqual(await browser.send(`${url}/me`), user())
      return (await redis.ttl(key)) > 1000
    }
    assert.deepEqual([await extends_(apps[0]), await extends_(apps[1]), await extends_(apps[2])], [true, false, true])
  })

  it('express-session: `rolling` leaves an old time of expiry in the record, `resave` does not', async () => {
    const rolling = edited('express-session.md', 'before.js', 'cookie:', 'rolling: true, cookie:')
    const { redis, apps } = await startAll('express-session.md', ['before.js', 'after.js', 'resave.js'], {
      'before.js': rolling,
      'resave.js': rolling.replace('resave: false', 'resave: true'),
    })
    const browser = new Browser()
    await browser.send(`${apps[0].url}/login`, { name: 'ada' })
    const key = `sess:${idOf(browser, 'connect.sid')}`
    // As if the login was more than a day ago.
    const text = (await redis.get(key))?.replace(/"expires":"\d+/, '"expires":"2020') ?? ''
    for (const [visited, expected] of [
      [apps[0], nobody],
      [apps[2], user()],
    ] as const) {
      await redis.set(key, text, 'EX', 1000)
      assert.deepEqual(await browser.send(`${visited.url}/me`), user())
      assert.deepEqual(await new Browser(browser.cookies).send(`${apps[1].url}/me`), expected)
    }
  })

  it('@fastify/session: a second process does not know the sessions of the first', async () => {
    const { apps } = await startAll('fastify-session.md', ['before.js', 'before.js', 'after.js', 'after.js'])
    const browser = new Browser()
    await browser.send(`${apps[0].url}/login`, { name: 'ada' })
    assert.deepEqual(await new Browser(browser.cookies).send(`${apps[0].url}/me`), user())
    assert.deepEqual(await new Browser(browser.cookies).send(`${apps[1].url}/me`), nobody)
    await areOne(apps[2], apps[3], '/theme')
    const [there, here] = [new Browser(), new Browser()]
    await there.send(`${apps[0].url}/me`)
    await here.send(`${apps[2].url}/me`)
    assert.deepEqual([there.cookies.size, here.cookies.size], [1, 0], 'sessions of visitors')
  })

  it('@fastify/session: with FleetStore, both apps share users, cookies and records', async () => {
    const shared = edited(
      'fastify-session.md',
      'before.js',
      'cookie: { secure: false }',
      'cookie: { secure: false }, store',
    )
    const { apps } = await startAll('fastify-session.md', ['before.js', 'after.js'], {
      'before.js': `import { store } from './shared.js'\n${shared}`,
    })
    await areOne(apps[0], apps[1], '/theme')
  })

  it('connect-redis: overlapping changes are lost there and kept here', async () => {
    const waits = `if (body.theme) {
      console.log('waiting')
      await new Promise((resolve) => process.once('SIGUSR2', resolve))
    }`
    const waiting = (name: string): string =>
      edited('connect-redis.md', name, 'Object.assign(', `${waits}\nObject.assign(`)
    const { apps } = await startAll('connect-redis.md', ['before.js', 'after.js'], {
      'before.js': waiting('before.js'),
      'after.js': waiting('after.js'),
    })
    const bodies = await Promise.all(
      apps.map(async ({ url, app }) => {
        const browser = new Browser()
        await browser.send(`${url}/login`, { name: 'ada' })
        const slow = new Browser(browser.cookies).send(`${url}/settings`, { theme: 'dark' })
        await until(() => app.stdout.includes('waiting'))
        await browser.send(`${url}/settings`, { language: 'en' })
        process.kill(app.pid, 'SIGUSR2')
        await slow
        return (await browser.send(`${url}/me`)).body
      }),
    )
    assert.deepEqual(bodies, [
      { user: 'ada', theme: 'dark' },
      { user: 'ada', theme: 'dark', language: 'en' },
    ])
  })

  it('express-session: both apps share users, cookies and records. An outage of Redis is a 500 there, and a 503 here', async () => {
    const { url, stop } = await startRedis()
    const folders = ['express-session.md', 'connect-redis.md'].map((page) => project.write(page))
    const files = folders.flatMap((folder) => [`${folder}/before.js`, `${folder}/after.js`])
    const apps = await Promise.all(files.map((file) => project.start(file, { REDIS_URL: url })))
    await areOne(apps[0] as Running, apps[1] as Running, '/theme')
    const browsers = apps.map(() => new Browser())
    await Promise.all(browsers.map((browser, i) => browser.send(`${apps[i]?.url}/login`, { name: 'ada' })))
    await stop()
    const headers = browsers.map(({ cookies }) => ({ cookie: [...cookies].map((pair) => pair.join('=')).join('; ') }))
    const responses = await Promise.all(apps.map((app, i) => fetch(`${app.url}/me`, { headers: headers[i] ?? {} })))
    assert.deepEqual(
      responses.map((response) => [response.status, response.headers.has('retry-after')]),
      [
        [500, false],
        [503, true],
        [500, false],
        [503, true],
      ],
    )
  })

  it('connect-redis: each step of the move is one with the step before', async () => {
    const moving = edited('connect-redis.md', 'after.js', 'cookieName', 'store, cookieName')
    const step = (store: string): string => `import { store } from './${store}.js'\n${moving}`
    const names = ['before.js', 'keep.js', 'old-first.js', 'own-first.js', 'after.js']
    const { redis, apps } = await startAll('connect-redis.md', names, {
      'keep.js': step('store-1'),
      'old-first.js': step('store-2'),
      'own-first.js': step('store-3'),
      'store-3.js': edited('connect-redis.md', 'store-2.js', 'both(old, own)\n', 'both(own, old)\n'),
    })
    const lasting = new Browser()
    await lasting.send(`${apps[0].url}/login`, { name: 'ada' })
    for (const [i, next] of apps.slice(1).entries()) {
      await areOne(apps[i] as Running, next, '/settings')
      await lasting.send(`${next.url}/settings`, { theme: `step ${i + 1}` })
      assert.deepEqual(await lasting.send(`${next.url}/me`), user(`step ${i + 1}`))
    }
    assert.equal(await redis.exists(`fleet:session:{${idOf(lasting, 'sessionId')}}`), 1)
  })
})

/** A login at one app is known to the other one. So are changes and the logout. */
async function areOne(one: Running, other: Running, settings: string): Promise<void> {
  for (const [first, second] of [
    [one, other],
    [other, one],
  ] as const) {
    const browser = new Browser()
    assert.deepEqual(await browser.send(`${first.url}/login`, { name: 'ada' }), user())
    assert.deepEqual(await browser.send(`${second.url}/me`), user())
    await browser.send(`${second.url}${settings}`, { theme: 'dark' })
    assert.deepEqual(await browser.send(`${first.url}/me`), user('dark'))
    const copy = new Browser(browser.cookies)
    await browser.send(`${second.url}/logout`, {})
    assert.deepEqual(await copy.send(`${first.url}/me`), nobody)
  }
}

const idOf = (browser: Browser, cookie: string): string =>
  /^(?:s:)?(.*)\./.exec(decodeURIComponent(browser.cookies.get(cookie) ?? ''))?.[1] ?? ''
