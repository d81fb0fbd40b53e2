import { readdirSync, readFileSync } from 'node:fs'
import { createProxy, type ProxyOptions } from '../../../../src/edge/http/server.ts'

// A proxy for HTTP/1.1 and one for HTTP/2 in a separate process, with short timeouts. They report their state on a message.
const file = (name: string): string =>
  readFileSync(new URL(`../../fixtures/localhost.${name}`, import.meta.url), 'utf8')
// Connections are not reused, so that the bytes of one script cannot end up in the next response.
const options = {
  targets: [process.argv[2] as string],
  probe: { type: 'off' },
  outliers: { consecutive: 0, errorShare: 0, latencyFactor: 0 },
  retry: { attempts: 1 },
  connections: { responseTimeoutMs: 2000, bodyTimeoutMs: 2000, keepAliveMs: 1, unsafeKeepAliveMs: 1 },
  sendTimeoutMs: 2000,
  // The HTTP/2 session waits while the HTTP/1.1 clients are tested.
  headersTimeoutMs: 600_000,
  requestTimeoutMs: 600_000,
  keepAliveMs: 600_000,
} satisfies ProxyOptions
const plain = createProxy(options)
const secure = createProxy({ ...options, tls: { key: file('key'), cert: file('crt') } })
const urls = [await plain.listen(), await secure.listen()]

const sum = (text: string, name: string): number =>
  [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\d+)$`, 'gm'))].reduce(
    (all, match) => all + Number(match[1]),
    0,
  )

process.on('disconnect', () => process.exit())
process.on('message', () => {
  globalThis.gc?.()
  const text = plain.metrics() + secure.metrics()
  process.send?.({
    heap: process.memoryUsage().heapUsed + process.memoryUsage().external,
    // Open descriptors, on Linux.
    open: readdirSync('/proc/self/fd').length,
    inflight: sum(text, 'fleet_proxy_inflight') + sum(text, 'fleet_proxy_target_inflight'),
    tunnels: sum(text, 'fleet_proxy_tunnels'),
    // The two proxies share this counter.
    internalErrors: sum(text, 'fleet_proxy_internal_errors_total') / 2,
  })
})
process.send?.(urls)
