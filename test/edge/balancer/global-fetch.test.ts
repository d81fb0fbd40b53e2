import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const cwd = fileURLToPath(new URL('../../..', import.meta.url))

/** An app that keeps track of the dispatcher of its own `fetch` while it uses the balancer and the proxy. */
const program = (first: string): string => `
import { createServer } from 'node:http'

const upstream = createServer((request, response) => request.resume().on('end', () => response.end('ok')))
await new Promise((listening) => upstream.listen(0, '127.0.0.1', listening))
const url = 'http://127.0.0.1:' + upstream.address().port
const dispatcher = () => globalThis[Symbol.for('undici.globalDispatcher.1')]
${first}
const before = dispatcher()
const changed = []
const see = (step) => dispatcher() === before || changed.push(step)

const { Balancer } = await import('./src/edge/balancer/balancer.ts')
const { createProxy } = await import('./src/edge/http/server.ts')
see('import')
const balancer = new Balancer([url], { probe: { type: 'off' } })
see('new Balancer')
await (await balancer.request('/')).body.text()
see('request')
const proxy = createProxy({ targets: [url], probe: { type: 'off' } })
const address = await proxy.listen({ port: 0, host: '127.0.0.1' })
see('listen')
await (await fetch(address)).text()
const text = await (await fetch(url, { method: 'POST', body: 'hello', headers: { 'content-length': '5' } })).text()
const { request } = await import('undici')
const own = await (await request(url)).body.text()
await proxy.close()
await balancer.close()
upstream.closeAllConnections()
upstream.close()
console.log(JSON.stringify({ changed, text, own }))
`

async function run(first: string, env: NodeJS.ProcessEnv = {}): Promise<unknown> {
  const args = ['--input-type=module', '--eval', program(first)]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd, env: { ...process.env, ...env } })
  return JSON.parse(stdout)
}

test('the balancer leaves the global fetch as it is', async () => {
  assert.deepEqual(await run(''), { changed: [], text: 'ok', own: 'ok' })
})

test('the balancer leaves a global fetch that was used before as it is', async () => {
  assert.deepEqual(await run('await (await fetch(url)).text()'), { changed: [], text: 'ok', own: 'ok' })
})

test('the balancer leaves the proxy of the global fetch as it is', async () => {
  const env = { NODE_USE_ENV_PROXY: '1', HTTP_PROXY: 'http://127.0.0.1:9', NO_PROXY: '127.0.0.1' }
  assert.deepEqual(await run('', env), { changed: [], text: 'ok', own: 'ok' })
})
