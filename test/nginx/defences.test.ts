import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { globSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freePort } from '../helpers/free-port.ts'
import { startUpstream } from '../helpers/upstream.ts'
import { render, root, sendRequest, startFront } from './front.ts'

const read = (path: string): string => readFileSync(join(root, 'nginx', path), 'utf8').replace(/^\s*#.*$/gm, '')
const app = await startUpstream('app')
const front = await startFront({
  FLEET_TARGETS: app.target,
  FLEET_TRUSTED_PROXY: '127.0.0.1',
  FLEET_RATE: '1r/m',
  FLEET_BURST: 2,
})

test('removes the names under which frameworks accept another URL from a client', async () => {
  const names = ['forwarded-path', 'forwarded-prefix', 'forwarded-scheme', 'forwarded-server', 'forwarded-ssl']
  names.push('forwarded-uri', 'host', 'original-host', 'original-uri', 'original-url', 'rewrite-url')
  const lies = Object.fromEntries(names.map((name) => [`x-${name}`, 'evil']))
  for (const path of ['/', '/api/x', '/static/x', '/events']) {
    await front.send(path, { headers: { ...lies, 'x-forwarded-for': '192.0.2.1' } })
    assert.equal(app.seen.at(-1)?.path, path)
    assert.doesNotMatch(JSON.stringify(app.seen.at(-1)?.headers), /evil/, path)
  }
})

test('takes the last address that is no trusted proxy as the client', async () => {
  for (const [chain, client] of [
    ['6.6.6.6, 203.0.113.7', '203.0.113.7'],
    ['6.6.6.6, 203.0.113.8, 127.0.0.1', '203.0.113.8'],
  ] as const) {
    await front.send('/', { headers: { 'x-forwarded-for': chain } })
    const { headers } = app.seen.at(-1) ?? assert.fail()
    assert.deepEqual([headers['x-forwarded-for'], headers['x-real-ip']], [client, client])
  }
})

test('limits a client on every path, and a probe that is not spelled as one', async () => {
  for (const [index, path] of ['/', '/ws', '/events', '/static/x', '/he%61lth'].entries()) {
    const headers = { 'x-forwarded-for': `198.51.100.${index}` }
    const statuses: number[] = []
    for (let turn = 0; turn < 4; turn++) statuses.push((await front.send(path, { headers })).status)
    assert.deepEqual(statuses, [200, 200, 200, 429], path)
  }
})

test('keeps a cached file apart by host and query', async () => {
  app.handler = ({ headers: { host }, url }, response) =>
    response.setHeader('Cache-Control', 'max-age=60').end(`${host} ${url}`)
  const send = async (host: string, path: string): Promise<string> =>
    (await front.send(path, { headers: { host, 'x-forwarded-for': `192.0.2.${host.length}` } })).body
  for (const turn of [1, 2]) {
    assert.equal(await send('a.example', '/static/f.css'), 'a.example /static/f.css', String(turn))
    assert.equal(await send('other.example', '/static/f.css'), 'other.example /static/f.css', String(turn))
  }
  assert.equal(await send('third.b.example', '/static/f.css?v=2'), 'third.b.example /static/f.css?v=2')
  app.handler = (_request, response) => response.end('ok')
})

test('the admin area rejects the right password from another network', async () => {
  const passwords = join(front.folder, 'admin.htpasswd')
  writeFileSync(passwords, `ops:{SHA}${createHash('sha1').update('right').digest('base64')}\n`, { mode: 0o644 })
  const authorization = `Basic ${btoa('ops:right')}`
  const statusFrom = async (network: string): Promise<number> => {
    const port = await freePort()
    await startFront({
      FLEET_TARGETS: app.target,
      FLEET_ADMIN: 'on',
      FLEET_ADMIN_LISTEN: `127.0.0.1:${port}`,
      FLEET_ADMIN_NETWORK: network,
      FLEET_ADMIN_PASSWORDS: passwords,
      FLEET_ADMIN_TOKEN: 'x',
    })
    return (await sendRequest(port, '/fleet', { headers: { authorization } })).status
  }
  assert.deepEqual([await statusFrom('192.0.2.0/24'), await statusFrom('127.0.0.0/8')], [403, 200])
})

test('rendered files, which may contain a token, are readable by their owner only', async () => {
  const folder = await render({ FLEET_TARGETS: app.target, FLEET_ADMIN: 'on', FLEET_ADMIN_TOKEN: 'x' })
  const files = globSync(`${folder}/conf.d/**/*.{conf,map}`)
  assert.ok(files.length > 10)
  for (const file of files) assert.equal(statSync(file).mode & 0o077, 0, file)
})

test('by default trusts no proxy, opens no further port, and hides the admin area from the network', () => {
  const values = new Map([...read('nginx.env').matchAll(/^(\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]))
  for (const [name, value] of Object.entries({
    ...{ FLEET_TRUSTED_PROXY: 'unix:', FLEET_TCP: 'off', FLEET_STATIC_ROOT: '', FLEET_STATIC_SPA: 'off' },
    ...{ FLEET_ADMIN: 'off', FLEET_ADMIN_LISTEN: '127.0.0.1:8081', FLEET_ADMIN_NETWORK: '127.0.0.1' },
    ...{ FLEET_ADMIN_TOKEN: '', FLEET_ADMIN_RATE: '50r/s', FLEET_ADMIN_BURST: '100' },
    ...{ FLEET_READ_TIMEOUT: '60s', FLEET_WORKER_CONNECTIONS: '4096', FLEET_FAIL_TIMEOUT: '6s' },
  }))
    assert.equal(values.get(name), value, name)
  // The others are in the documentation: `FLEET_RATE` is in "100 requests/s per client (`FLEET_RATE`)".
  const docs = readFileSync(join(root, 'docs/nginx.md'), 'utf8').replaceAll('\n', ' ')
  const units = { 'r/s': ' requests/s', 'r/m': ' requests per minute', m: ' MB', '': '' }
  for (const name of ['RATE', 'BURST', 'API_RATE', 'API_BURST', 'AUTH_RATE', 'AUTH_BURST', 'CONNECTIONS', 'BODY_MAX']) {
    const [, number = '', unit = ''] = /^(\d+)(.*)$/.exec(values.get(`FLEET_${name}`) ?? '') ?? []
    const text = `\\b${number}${units[unit as keyof typeof units]}[^(;|]*\\(\`FLEET_${name}\`\\)`
    assert.match(docs, new RegExp(text), name)
  }
})

/** The directives that limit what a client, or an instance, may occupy. They take too long to wait for. */
const bounds: Readonly<Record<string, readonly string[]>> = {
  'snippets/http.conf': [
    'client_header_timeout 15s',
    'client_body_timeout 15s',
    'send_timeout 15s',
    'keepalive_timeout 65s',
    'reset_timedout_connection on',
    'server_tokens off',
  ],
  'snippets/proxy.conf': ['proxy_connect_timeout 500ms', 'proxy_request_buffering on'],
  'snippets/retry.conf': [
    'proxy_next_upstream error timeout http_502',
    'proxy_next_upstream_tries 0',
    'proxy_next_upstream_timeout 10s',
  ],
  'snippets/static.conf': ['proxy_cache_valid 200 301 308 10m', 'proxy_cache_valid 404 10s'],
  'snippets/stream.conf': ['proxy_read_timeout 1h', 'proxy_send_timeout 1h'],
  'snippets/workers.conf': ['worker_shutdown_timeout 5m'],
  'snippets/tls.conf': ['ssl_session_tickets off', 'ssl_early_data off', 'ssl_session_timeout 1d'],
  'upstreams/keepalive.conf': ['keepalive 64', 'keepalive_requests 10000', 'keepalive_timeout 60s'],
  'templates/tcp/on.conf.template': ['proxy_connect_timeout 500ms', 'proxy_timeout 1h'],
  'templates/limits.conf.template': ['limit_req_status 429', 'limit_conn_status 429'],
}

test('bounds every wait and the size of the cache', () => {
  for (const [path, directives] of Object.entries(bounds)) {
    const lines = read(path).replaceAll(/[ \t]+/g, ' ')
    for (const directive of directives) assert.ok(lines.includes(`${directive};`), `${path}: ${directive}`)
  }
  assert.match(read('templates/paths.conf.template'), /proxy_cache_path [^;]*\bmax_size=1g inactive=1d\b/)
})
