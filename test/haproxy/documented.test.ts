// What docs/haproxy.md tells operators to type, and where plain HTTP is redirected.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { request } from 'undici'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { until } from '../helpers/until.ts'
import { releases, startFront } from './haproxy.ts'

const fileOf = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const page = readFileSync(fileOf('docs/haproxy.md'), 'utf8')

/** Made as the page says. */
function certificate(): string {
  const folder = temporaryFolder('tls')
  execFileSync(fileOf('scripts/make-dev-certs'), [folder, 'localhost'], { stdio: 'pipe' })
  const file = join(folder, 'site.pem')
  writeFileSync(file, ['fullchain.pem', 'key.pem'].map((name) => readFileSync(join(folder, name), 'utf8')).join(''))
  return file
}

/** No instance runs there. */
const nowhere = '127.0.0.1:1'
const servers = [nowhere, nowhere].join(' ')

for (const release of releases)
  describe(`HAProxy ${release.version}`, () => {
    test('accepts each command of the page at run time', async () => {
      const commands = [...page.matchAll(/^api '([^']+)'/gm)].map(([, command = '']) => command)
      assert.ok(commands.length >= 10)
      const front = await startFront(release, {
        LB_SERVERS: servers,
        LB_POOLS: 'v2 heavy',
        LB_POOL_V2_SERVERS: servers,
        LB_POOL_HEAVY_SERVERS: nowhere,
        LB_ROUTES: '/api/v2=v2 //shop.example.com/reports=heavy x-version:2=v2',
        LB_CANARY: nowhere,
        LB_POOL_V2_CANARY: nowhere,
      })
      // Its port is open before its socket is there.
      await until(() => front.api('show info'), { what: 'the runtime API' })
      for (const command of commands.filter((each) => !each.startsWith('show')))
        assert.equal(await front.api(command), '', command)
      assert.match(await front.api('show servers state fleet'), /app-2/)
      assert.match(await front.api('show map maps/pools.map'), /\/api\/v3\/ v2/)
      await front.stop()
    })

    test('redirects plain HTTP to the port of TLS, whatever port the client used', async () => {
      const LB_TLS_CERT = certificate()
      for (const [LB_HTTPS_REDIRECT_PORT, port] of [
        ['off', ''],
        ['8443', ':8443'],
      ] as const) {
        const front = await startFront(release, { LB_SERVER_1: nowhere, LB_TLS_CERT, LB_HTTPS_REDIRECT_PORT })
        for (const name of ['shop.example', '[::1]'])
          for (const host of [name, `${name}:8080`]) {
            const { statusCode, headers, body } = await request(`${front.url}/a?b=%2F&c`, { headers: { host } })
            await body.dump()
            assert.deepEqual([statusCode, headers.location], [308, `https://${name}${port}/a?b=%2F&c`])
          }
        await front.stop()
      }
    })
  })
