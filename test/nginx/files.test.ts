import assert from 'node:assert/strict'
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { check, makeCertificates, render, tlsValues, type Values } from './front.ts'

const folder = fileURLToPath(new URL('../../nginx/', import.meta.url))
const files = new Map(
  globSync(`${folder}**/*.{conf,template,env,html,json}`, { exclude: (path) => path.endsWith('/conf.d') }).map(
    (path) => [relative(folder, path), readFileSync(path, 'utf8')],
  ),
)
const all = [...files.values()].join('\n')
const directives = all.replace(/^\s*#.*$/gm, '')

test('nginx accepts every policy, with each switch on and off', async () => {
  const certificates = await makeCertificates()
  const policies = ['round-robin', 'weighted', 'least-conn', 'ip-hash', 'random-two', 'sticky']
  for (const [index, FLEET_POLICY] of policies.entries()) {
    const [even, low] = [index % 2 === 0 ? 'on' : 'off', index < 3 ? 'on' : 'off']
    const values: Values = {
      FLEET_TARGETS: '127.0.0.1:4001 127.0.0.1:4002=2',
      FLEET_POLICY,
      ...(even === 'on' && tlsValues(certificates)),
      FLEET_STAPLING: low,
      FLEET_CANARY: low,
      FLEET_CANARY_TARGETS: '127.0.0.1:4009',
      FLEET_TCP: low,
      FLEET_ADMIN: even,
      FLEET_ADMIN_TOKEN: 'x',
    }
    assert.equal(await check(await render(values)), undefined, JSON.stringify(values))
  }
})

test('every value that a template uses has a default, and every default is used', () => {
  const renderer = readFileSync(`${folder}../scripts/nginx-render`, 'utf8')
  const derived = ['LAST_RESORT', 'POOL_NAME', 'POOL_SUFFIX', 'STATIC', 'STATIC_FOLDER'].map((name) => `FLEET_${name}`)
  const inTemplates = [...directives.matchAll(/\$\{(FLEET_\w+)\}/g)].map(([, name = '']) => name)
  for (const name of derived) assert.ok(inTemplates.includes(name), name)
  const used = new Set(inTemplates.filter((name) => !derived.includes(name)))
  // Not in a template: the renderer derives others from them.
  for (const name of ['FAIL_TIMEOUT', 'MAINTENANCE', 'POOLS', 'ROUTES', 'STATIC_ROOT'])
    if (renderer.includes(`$FLEET_${name}`)) used.add(`FLEET_${name}`)
  for (const list of ['FLEET', 'FLEET_CANARY', 'FLEET_ADMIN']) used.add(`${list}_TARGETS`)
  const given = new Set([...(files.get('nginx.env') ?? '').matchAll(/^(FLEET_\w+)=/gm)].map(([, name]) => name))
  assert.deepEqual([...used].sort(), [...given].sort())
})

test('follows names in DNS from nginx 1.27.3, except those of /etc/hosts', async () => {
  const servers = async (version: string): Promise<string[]> => {
    const program = join(temporaryFolder('version'), 'nginx')
    writeFileSync(program, `#!/bin/sh\necho 'nginx version: nginx/${version}' >&2\n`, { mode: 0o755 })
    const FLEET_TARGETS = 'app:3000 app.internal:3000=2 10.0.0.1:3000 [::1]:3000 localhost:3000=backup'
    const text = readFileSync(join(await render({ FLEET_TARGETS, NGINX: program }), 'conf.d/upstreams.conf'), 'utf8')
    return [...text.matchAll(/^ +server (\S+) resolve /gm)].map(([, target = '']) => target)
  }
  const names = ['app:3000', 'app.internal:3000']
  assert.deepEqual(await servers('1.27.3'), [...names, ...names])
  assert.deepEqual(await servers('1.30.0'), [...names, ...names])
  assert.deepEqual(await servers('1.27.2'), [])
})

test('every file is included by another one', () => {
  for (const path of files.keys()) {
    // Values choose among the files in other folders.
    if (/^snippets\/[^/]+$/.test(path)) assert.match(directives, new RegExp(`include\\s+${path};`))
  }
})

test('avoids known mistakes of published configurations', () => {
  for (const trap of [
    /non_idempotent/,
    /health_check|\bcheck\s/,
    /Connection\s+["']?upgrade/i,
    /ssl_protocols.*(?:SSLv|TLSv1(?:\.1)?[ ;])/,
    /\bslow_start|\bleast_time|\bqueue\s/,
  ]) {
    assert.doesNotMatch(directives, trap)
  }
  assert.doesNotMatch(all, /\r|\t| $/m)
})
