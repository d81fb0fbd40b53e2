import { createServer, type Server } from 'node:net'

const firstPort = 10_000
const slices = 220
const sliceSize = 100

/**
 * The first of `count` consecutive free ports (1 to 99). No other call returns them, in this process or another. They are below the
 * ephemeral ports of Linux (from 32768) and macOS (from 49152), so no outgoing connection can take them first.
 */
export async function freePort(count: number = 1): Promise<number> {
  if (count >= sliceSize) throw new RangeError(`${count} consecutive ports are too many`)
  for (;;) {
    const first = await take(count)
    const ports = Array.from({ length: count }, (_, index) => first + index)
    const free = await Promise.all(ports.map(isPortFree))
    if (free.every(Boolean)) return first
  }
}

interface Slice {
  next: number
  readonly end: number
}
let slice: Promise<Slice> | undefined

async function take(count: number): Promise<number> {
  for (;;) {
    slice ??= lease()
    const mine = slice
    const ports = await mine
    if (ports.end - ports.next >= count) {
      ports.next += count
      return ports.next - count
    }
    if (slice === mine) slice = undefined
  }
}

/**
 * Reserves a slice of ports for this process. The lease is a listener on the first port, which the kernel gives to one process and
 * releases when that exits.
 */
async function lease(): Promise<Slice> {
  for (;;) {
    const first = firstPort + sliceSize * Math.floor(Math.random() * slices)
    const server = await listen(first, '127.0.0.1')
    server?.unref()
    if (server) return { next: first + 1, end: first + sliceSize }
  }
}

/** Whether a server can listen on this port on all addresses. */
export async function isPortFree(port: number): Promise<boolean> {
  for (const host of ['127.0.0.1', '0.0.0.0']) {
    const server = await listen(port, host)
    if (!server) return false
    await new Promise((resolve) => server.close(resolve))
  }
  return true
}

function listen(port: number, host: string): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', () => resolve(undefined))
    server.listen({ port, host, exclusive: true }, () => resolve(server))
  })
}
