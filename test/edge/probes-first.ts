import assert from 'node:assert/strict'
import { createServer, type ServerResponse } from 'node:http'
import { until } from '../helpers/until.ts'
import { atEnd } from './at-end.ts'
import { quickProbe } from './front.ts'
import { startListening } from './listening.ts'

interface Proxy {
  listen(): Promise<unknown>
  close(): Promise<unknown>
  readonly address: unknown
}
type Create<P extends Proxy> = (options: { targets: string[]; probe: typeof quickProbe }) => P

/** Asserts that a proxy listens only once its target has responded to a probe. @returns the proxy, listening */
export async function listensAfterProbes<P extends Proxy>(create: Create<P>): Promise<P> {
  const probes: ServerResponse[] = []
  const target = await startListening(createServer((_, response) => probes.push(response)))
  const proxy = create({ targets: [`http://127.0.0.1:${target}`], probe: quickProbe })
  atEnd(() => proxy.close())
  const listening = proxy.listen()
  await until(() => probes.length > 0)
  assert.equal(proxy.address, null)
  probes[0]?.end()
  await listening
  assert.ok(proxy.address)
  return proxy
}
