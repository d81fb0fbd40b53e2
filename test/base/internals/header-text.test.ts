import assert from 'node:assert/strict'
import { createServer, OutgoingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { it, type TestContext } from 'node:test'

async function staticHeaderOf(t: TestContext): Promise<{ attached: boolean; value: string | null }> {
  // A new instance of the module, whose self-test has not run yet.
  const url = new URL(`../../../src/base/internals/header-text.ts?${t.name}`, import.meta.url).href
  const { StaticHeaderText } = (await import(url)) as typeof import('../../../src/base/internals/header-text.ts')
  const headers = new StaticHeaderText()
  headers.set({ 'x-static': '1' })
  let attached = false
  const server = createServer((_request, response) => {
    attached = headers.attach(response)
    if (!attached) response.setHeader('x-static', '1')
    response.writeHead(200, { 'x-own': '2' })
    response.end()
  })
  t.after(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  return { attached, value: response.headers.get('x-static') }
}

it('writes static headers as text while the self-test passes', async (t) => {
  assert.deepEqual(await staticHeaderOf(t), { attached: true, value: '1' })
})

it('falls back to setHeader when Node writes the status line elsewhere', async (t) => {
  const prototype = OutgoingMessage.prototype as unknown as { _storeHeader(line: string, headers: unknown): void }
  const original = prototype._storeHeader
  t.after(() => {
    prototype._storeHeader = original
  })
  prototype._storeHeader = function (_line, headers) {
    original.call(this, 'HTTP/1.1 200 OK\r\n', headers)
  }
  assert.deepEqual(await staticHeaderOf(t), { attached: false, value: '1' })
})
