import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { request } from 'undici'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'
import { startFleet } from './fleet.ts'
import { type Front, releases, startFront } from './haproxy.ts'

const fleet = await startFleet()
const [one, two, three] = fleet.members
const address = ({ host, port }: typeof one): string => `${host}:${port}`
const pair = { LB_SERVERS: `${address(one)} ${address(two)}` }

const servedBy = async (front: Front, method: 'GET' | 'POST' = 'GET'): Promise<string> => {
  const { headers, body } = await request(`${front.url}/`, { method })
  await body.dump()
  return String(headers['x-instance-id'])
}

for (const release of releases) {
  describe(`options of HAProxy ${release.version}`, () => {
    test('a backup gets requests only while no other instance is in rotation', async () => {
      const front = await startFront(release, { ...pair, LB_BACKUP: address(three) })
      await front.up('app-1', 'app-2', 'backup')
      for (let i = 0; i < 10; i++) assert.notEqual(await servedBy(front), three.id)
      for (const name of ['app-1', 'app-2']) await front.api(`set server fleet/${name} state maint`)
      for (const method of ['GET', 'POST'] as const) assert.equal(await servedBy(front, method), three.id)
      for (const name of ['app-1', 'app-2']) await front.api(`set server fleet/${name} state ready`)
      await front.up('app-1', 'app-2')
      for (let i = 0; i < 10; i++) assert.notEqual(await servedBy(front), three.id)
      await front.stop()
    })

    test('caches small responses that are public, and none for a client that could be known', async () => {
      const front = await startFront(release, pair)
      await front.up('app-1', 'app-2')
      let names = 0
      const get = async (path: string, headers: Record<string, string> = {}) => {
        const response = await request(front.url + path, { headers })
        return { ...response, text: await response.body.text() }
      }
      /** Whether the second response is the first. */
      const caches = async (query: string, first: Record<string, string> = {}, second = first): Promise<boolean> => {
        const path = `/static/${names++}.css?${query}`
        return (await get(path, first)).text === (await get(path, second)).text
      }
      assert.ok(await caches('cc=public,max-age=60'))
      assert.ok(await caches('cc=max-age=60,%20public'))
      for (const query of [
        ...['cc=max-age=60', 'cc=private,max-age=60', 'cc=no-store', 'cc=public', 'cc=public,no-cache,max-age=9'],
        ...['cc=publicly,max-age=60', 'cc=public,max-age=60&set-cookie=a=b', 'cc=public,max-age=60&vary=cookie'],
        ...['cc=public,max-age=60&vary=accept-language', 'cc=public,max-age=60&vary=*'],
      ])
        assert.ok(!(await caches(query)), query)
      for (const header of ['cookie', 'authorization']) {
        const known = { [header]: 'a=b' }
        assert.ok(!(await caches('', known)), 'not stored')
        assert.ok(!(await caches('', known, {})), 'not served to others')
        assert.ok(!(await caches('', {}, known)), 'not served from the cache')
      }
      assert.ok(!(await caches('', { host: 'a.example' }, { host: 'b.example' })))

      // Each request has an id of its own.
      const [id, again] = [await get('/static/id.css'), await get('/static/id.css')].map(
        ({ headers }) => headers['x-request-id'],
      )
      assert.notEqual(id, again)
      // The cache has what the instance sent; compression is for one client.
      const zipped = await get('/static/zip.css', { 'accept-encoding': 'gzip' })
      assert.equal((await get('/static/zip.css')).headers['content-encoding'], undefined)
      assert.match((await get('/static/zip.css')).text, /^app-/)
      assert.equal(zipped.statusCode, 200)
      await front.stop()

      const none = await startFront(release, { ...pair, LB_CACHE: 'off' })
      assert.notEqual((await request(`${none.url}/static/a.css`)).body, undefined)
      const texts = [1, 2].map(async () => (await request(`${none.url}/static/a.css`)).body.text())
      assert.notEqual(await texts[0], await texts[1])
      await none.stop()
    })
  })
}

const [release] = releases
const root = process.getuid?.() === 0 ? false : 'only root may change the root folder or user'

describe('HAProxy as a package runs it', () => {
  test('is confined to a folder and a user, and still responds with errors to cut requests', {
    skip: root,
  }, async () => {
    const jail = mkdtempSync(join(tmpdir(), 'fleet-jail-'))
    chmodSync(jail, 0o755)
    after(() => rmSync(jail, { recursive: true }))
    const front = await startFront(release as (typeof releases)[number], {
      ...pair,
      LB_CHROOT: jail,
      LB_USER: 'daemon',
    })
    await front.up('app-1', 'app-2')
    const pid = /^Pid: (\d+)/m.exec(await front.api('show info'))?.[1]
    assert.equal(readlinkSync(`/proc/${pid}/root`), jail)
    assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /^Uid:\t1\t/m)
    const posted = await request(`${front.url}/silent?name=jailed`, { method: 'POST' })
    assert.equal(posted.statusCode, 502)
    assert.equal(((await posted.body.json()) as { code: string }).code, 'LB_ERR_BAD_GATEWAY')
    await front.stop()
  })

  test('goes to the background', async () => {
    const own = temporaryFolder('daemon')
    mkdirSync(join(own, 'run'))
    const [http, stats, metrics] = [await freePort(), await freePort(), await freePort()].map(
      (port) => `127.0.0.1:${port}`,
    )
    const ports = { LB_HTTP: `${http}`, LB_STATS: `${stats}`, LB_METRICS: `${metrics}` }
    const env = { ...fleet.env, ...ports, LB_STATS_PASSWORD: 'x', LB_SOCKET: join(own, 'admin.sock'), LB_DAEMON: 'on' }
    const starter = (release as (typeof releases)[number]).launch(
      ['-p', join(own, 'pid')],
      { ...env, LB_LOG: '127.0.0.1:1' },
      own,
    )
    assert.deepEqual(await starter.exit, { code: 0, signal: null }, starter.stderr)
    const pid = Number(readFileSync(join(own, 'pid'), 'utf8'))
    try {
      await until(async () => (await request(`http://${http}/`)).statusCode === 200, { what: 'a response' })
    } finally {
      process.kill(pid)
    }
  })
})
