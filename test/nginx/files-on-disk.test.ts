import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { startUpstream } from '../helpers/upstream.ts'
import { startFront } from './front.ts'

const folder = temporaryFolder('public')
chmodSync(folder, 0o755)
for (const [file, text] of [
  ['index.html', '<h1>app</h1>'],
  ['app.js', 'js'],
  ['assets/style.css', 'css'],
  ['docs/index.html', '<h1>docs</h1>'],
  ['a?b c.txt', 'odd'],
  ['.env', 'secret'],
  ['.git/config', 'secret'],
  ['.well-known/x.json', '{}'],
] as const) {
  mkdirSync(dirname(join(folder, file)), { recursive: true, mode: 0o755 })
  writeFileSync(join(folder, file), text, { mode: 0o644 })
}
writeFileSync(join(folder, '../outside.txt'), 'secret', { mode: 0o644 })

const [app, v2] = [await startUpstream('app'), await startUpstream('v2')]
const values = {
  FLEET_TARGETS: app.target,
  FLEET_STATIC_ROOT: folder,
  FLEET_POOLS: 'v2',
  FLEET_POOL_V2_TARGETS: v2.target,
  FLEET_ROUTES: '/v2=v2 x-version:2=v2 /pages=default',
}

test('serves /static/ from a folder, and everything else from instances', async () => {
  const front = await startFront(values)
  const script = await front.send('/static/app.js')
  assert.deepEqual([script.status, script.body, script.by], [200, 'js', undefined])
  assert.match(String(script.headers['content-type']), /^text\/javascript/)
  assert.equal(script.headers['cache-control'], 'max-age=600')
  assert.equal(script.headers['x-content-type-options'], 'nosniff')
  const again = await front.send('/static/app.js', { headers: { 'if-none-match': String(script.headers.etag) } })
  assert.equal(again.status, 304)
  assert.equal((await front.send('/static/assets/style.css')).body, 'css')
  assert.equal((await front.send('/static/a%3fb%20c.txt?x=1')).body, 'odd')
  for (const path of [
    '/static/none',
    '/static/none.js',
    '/static/',
    '/static/assets',
    '/static/.env',
    '/static/.git/config',
  ]) {
    const { status, body, by } = await front.send(path)
    assert.deepEqual([status, JSON.parse(body).statusCode, by], [404, 404, undefined], path)
  }
  for (const path of [
    '/static/../outside.txt',
    '/static/..%2foutside.txt',
    '/static/%2e%2e/outside.txt',
    '/static%2f..%2foutside.txt',
  ])
    assert.equal((await front.send(path)).status, 404, path)
  assert.equal((await front.send('/static/app.js', { method: 'POST' })).status, 405)
  for (const path of ['/', '/app.js', '/any/page']) assert.equal((await front.send(path)).by, 'app', path)
  assert.equal((await front.send('/static/app.js', { headers: { 'x-version': '2' } })).by, 'v2')
})

test('serves an application of pages with FLEET_STATIC_SPA=on', async () => {
  const front = await startFront({ ...values, FLEET_STATIC_SPA: 'on' })
  for (const path of ['/', '/any/page', '/user/john.doe', '/a%20b?c', '/docsx']) {
    const { status, body, headers, by } = await front.send(path)
    assert.deepEqual([status, body, by], [200, '<h1>app</h1>', undefined], path)
    assert.match(String(headers['content-type']), /^text\/html/)
    assert.equal(headers['cache-control'], 'no-cache')
  }
  assert.equal((await front.send('/docs')).body, '<h1>docs</h1>')
  assert.equal((await front.send('/app.js')).body, 'js')
  assert.equal((await front.send('/.well-known/x.json')).body, '{}')
  assert.equal((await front.send('/static/some/page')).body, '<h1>app</h1>')
  for (const path of ['/static/none.js', '/.env', '/.git/config'])
    assert.equal((await front.send(path)).status, 404, path)
  for (const path of ['/api/x', '/API/x', '/ws', '/events', '/health', '/pages', '/pages/x'])
    assert.equal((await front.send(path)).by, 'app', path)
  assert.equal((await front.send('/v2/x')).by, 'v2')
  assert.equal((await front.send('/form', { method: 'POST', body: 'x' })).by, 'app')
  assert.equal((await front.send('/metrics')).status, 404)
})
