import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { missing, releases } from './haproxy.ts'

const own = temporaryFolder('check')

test('every variable of haproxy.cfg is documented, with its default', () => {
  const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
  const presets = [...read('haproxy/haproxy.cfg').matchAll(/^ +presetenv (LB_\w+) +"(.*?)"/gm)]
  const docs = read('docs/haproxy.md')
  const own = /^LB_(?:(?:SERVER|AGENT)_\d|RESOLVE|POOLS|ROUTES)$/
  for (const [, name = '', value] of presets) {
    if (own.test(name)) continue
    const row = `| \`${name}\` | \`${value}\` |`
    assert.ok(docs.includes(row), row)
  }
  assert.ok(presets.length > 50)
})

if (missing) test('haproxy.cfg on HAProxy 3.2', { skip: missing }, () => {})

for (const release of releases) {
  describe(`haproxy.cfg on HAProxy ${release.version}`, () => {
    const check = async (env: Record<string, string>): Promise<{ code: number | null; output: string }> => {
      const child = release.launch(['-c'], env, own)
      const { code } = await child.exit
      return { code, output: child.stdout + child.stderr }
    }
    const password = { LB_STATS_PASSWORD: 'a password for tests' }

    for (const [what, env] of Object.entries<Record<string, string>>({
      'as it is': {},
      'as another user, with its log elsewhere': { LB_USER: 'daemon', LB_LOG: '127.0.0.1:514' },
      'by connections': { LB_BALANCE: 'leastconn' },
      'by the address of the client': { LB_BALANCE: 'source' },
      'with two random choices': { LB_BALANCE: 'random(2)' },
      'with a cookie': { LB_STICKY: 'SERVER', LB_STICKY_KEY: 'key' },
      'with a canary': { LB_CANARY: '127.0.0.1:4101' },
      'with a canary and a cookie': { LB_CANARY: '127.0.0.1:4101', LB_STICKY: 'SERVER', LB_STICKY_KEY: 'key' },
      'with a service name': { LB_SERVICE: 'app:3000' },
      'with a service name and its name server': { LB_SERVICE: 'app:3000', LB_NAMESERVER: '127.0.0.1:53' },
    })) {
      test(`is valid without a warning ${what}`, async () => {
        const { code, output } = await check({ ...password, ...env })
        assert.equal(code, 0, output)
        assert.doesNotMatch(output, /WARNING|ALERT/)
      })
    }

    test('is rejected without a password for the statistics', async () => {
      for (const env of [undefined, { LB_STATS_PASSWORD: '' }]) {
        const { code, output } = await check(env ?? {})
        assert.equal(code, 1)
        assert.match(output, /LB_STATS_PASSWORD must be set/)
      }
    })

    test('is rejected with a cookie that would reveal addresses', async () => {
      const { code, output } = await check({ ...password, LB_STICKY: 'SERVER' })
      assert.equal(code, 1)
      assert.match(output, /LB_STICKY_KEY must be set/)
    })

    test('is rejected with an unknown policy', async () => {
      assert.equal((await check({ ...password, LB_BALANCE: 'leasttime' })).code, 1)
    })
  })
}
