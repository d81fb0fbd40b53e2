import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseDiscover, parseListen, parseTargetOption } from '../../src/cli/commands/balance.ts'
import { dispatch } from '../../src/cli/dispatch.ts'
import { Output } from '../../src/cli/output.ts'
import { get } from '../edge/front.ts'
import { startUpstreams } from '../edge/upstream.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'

const main = new URL('../../src/cli/main.ts', import.meta.url)

describe('fleet balance', () => {
  for (const mode of [[], ['--tcp']]) {
    it(`balances over its targets and exits without losing a request ${mode.join('')}`, async () => {
      const upstreams = await startUpstreams(2)
      const port = await freePort()
      const targets = upstreams.flatMap(({ url }) => ['--target', url])
      const args = [
        'balance',
        '--listen',
        `127.0.0.1:${port}`,
        ...targets,
        '--policy',
        'least-connections',
        '--json',
        ...mode,
      ]
      const app = forkApp(main, { args })
      const url = `http://127.0.0.1:${port}`
      const names = new Set<string>()
      await until(
        async () => names.add(JSON.parse((await get(url, { headers: { connection: 'close' } })).text).name).size === 2,
        { timeoutMs: 60_000 },
      )
      for (const upstream of upstreams) {
        upstream.handler = (request, response) => setTimeout(() => upstream.response(request, response), 200)
      }
      const seen = upstreams.flatMap((upstream) => upstream.seen).length
      const last = get(url, { headers: { connection: 'close' } })
      await until(() => upstreams.flatMap((upstream) => upstream.seen).length > seen)
      void app.kill('SIGTERM')
      assert.equal((await last).status, 200)
      assert.equal((await app.exit).code, 0)
      const said = JSON.parse(app.stdout)
      assert.deepEqual(
        said.targets.map(({ state }: { state: string }) => state),
        ['up', 'up'],
      )
    })
  }

  it('reads listen addresses and target options', () => {
    assert.deepEqual(parseListen('8080'), { host: '0.0.0.0', port: 8080 })
    assert.deepEqual(parseListen('127.0.0.1:80'), { host: '127.0.0.1', port: 80 })
    assert.deepEqual(parseListen('[::1]:80'), { host: '::1', port: 80 })
    assert.deepEqual(parseTargetOption('http://a:1,weight=50,backup,max=9'), {
      url: 'http://a:1',
      weight: 50,
      backup: true,
      maxConnections: 9,
    })
    for (const text of ['', 'x', '99999', ':80', '1.2.3.4:', '[zz]:1', '[1.2]:1'])
      assert.throws(() => parseListen(text), { code: 'FLEET_ERR_USAGE' })
    for (const text of ['http://a,x', 'http://a,weight=x', 'http://a,backup=1'])
      assert.throws(() => parseTargetOption(text), { code: 'FLEET_ERR_USAGE' })
  })

  it('parses the sources of targets', () => {
    for (const text of ['dns+http://app:3000', 'srv+https://_http._tcp.app', 'registry']) assert.ok(parseDiscover(text))
    for (const text of ['', 'dns+ftp://x', 'http://x', 'dns+http://']) {
      assert.throws(() => parseDiscover(text), { code: 'FLEET_ERR_USAGE' })
    }
  })

  it('reports an invalid command line', async () => {
    const verbs = { balance: () => import('../../src/cli/commands/balance.ts') }
    for (const [args, expected] of [
      [['--target', 'nonsense'], 'FLEET_ERR_TARGET_INVALID'],
      [['--target', 'http://a', '--policy', 'x'], 'FLEET_ERR_USAGE'],
      [['--target', 'http://a', '--listen', 'x'], 'FLEET_ERR_USAGE'],
      [[], 'FLEET_ERR_USAGE'],
    ] as const) {
      let text = ''
      const stream = { write: (piece: string) => (text += piece) }
      const code = await dispatch(verbs, ['balance', ...args], new Output({ stdout: stream, stderr: stream }))
      assert.notEqual(code, 0)
      assert.match(text, new RegExp(expected))
    }
  })
})
