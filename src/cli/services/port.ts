import { createServer } from 'node:net'

/**
 * A port, the first of `count` consecutive ones, that nobody listens on at this moment. It lies below the range from
 * which Linux (32768 up) and macOS (49152 up) take the ports of outgoing connections, so that none of them can take it
 * before the caller does.
 */
export async function freePort(count: number = 1): Promise<number> {
  for (;;) {
    const first = 10_000 + Math.floor(Math.random() * (22_000 - count))
    const ports = Array.from({ length: count }, (_, index) => first + index)
    const free = await Promise.all(ports.map(isPortFree))
    if (free.every(Boolean)) return first
  }
}

/** Whether a listener on this port, on all addresses, would be let in. */
export async function isPortFree(port: number): Promise<boolean> {
  for (const host of ['127.0.0.1', '0.0.0.0']) {
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer()
      server.once('error', () => resolve(false))
      server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)))
    })
    if (!free) return false
  }
  return true
}
