import { readdirSync, readFileSync } from 'node:fs'
import Fastify, { type FastifyInstance } from 'fastify'
import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import { internalErrors } from '../../../src/edge/boundary.ts'
import { proxy } from '../../../src/edge/plugin/index.ts'

// An app with the plugin for HTTP/1.1 and one for HTTP/2, in a separate process. They report their state on a message.
const file = (name: string): string => readFileSync(new URL(`../fixtures/localhost.${name}`, import.meta.url), 'utf8')
// Connections are not reused, so that the bytes of one script cannot end up in the next response.
const balancer = new Balancer([process.argv[2] as string], {
  probe: { type: 'off' },
  outliers: { consecutive: 0, errorShare: 0, latencyFactor: 0 },
  retry: { attempts: 1 },
  connections: { responseTimeoutMs: 2000, bodyTimeoutMs: 2000, keepAliveMs: 1, unsafeKeepAliveMs: 1 },
})
const apps = [
  Fastify(),
  Fastify({ http2: true, https: { key: file('key'), cert: file('crt') }, http2SessionTimeout: 600_000 }),
] as unknown as FastifyInstance[]
for (const app of apps) app.register(proxy, { balancer, sendTimeoutMs: 2000 })
const urls = await Promise.all(apps.map((app) => app.listen({ port: 0, host: '127.0.0.1' })))

process.on('disconnect', () => process.exit())
process.on('message', () => {
  globalThis.gc?.()
  process.send?.({
    heap: process.memoryUsage().heapUsed + process.memoryUsage().external,
    // Open descriptors, on Linux.
    open: readdirSync('/proc/self/fd').length,
    inflight: balancer.targets.reduce((sum, { inflight }) => sum + inflight, 0),
    tunnels: 0,
    internalErrors: internalErrors(),
  })
})
process.send?.(urls)
