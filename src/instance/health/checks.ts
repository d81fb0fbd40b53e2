import { once } from 'node:events'
import { statfs } from 'node:fs/promises'
import { connect } from 'node:net'
import { totalmem } from 'node:os'
import { int, number, type Resolved, text } from '../../base/options.ts'
import { residentMemory } from '../../base/resident-memory.ts'
import type { LoadMeter } from '../metrics/load.ts'
import { heapUse } from './heap.ts'
import type { Check } from './runner.ts'

const share = number(0, 1)

/** Passes if a GET of `url` returns a status below 400. */
export function httpCheck(url: string): Check {
  return async (signal) => {
    const response = await fetch(url, { signal, redirect: 'manual' })
    await response.body?.cancel()
    if (response.status >= 400) throw new Error(`status ${response.status}`)
  }
}

/** Passes if a TCP connection can be opened. @param address `host:port` */
export function tcpCheck(address: string): Check {
  const colon = address.lastIndexOf(':')
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '')
  const port = Number(address.slice(colon + 1))
  return async (signal) => {
    const socket = connect({ host, port, signal })
    await once(socket, 'connect')
    socket.destroy()
  }
}

/** @internal */
export const diskLimits = {
  /** Any path on the file system to check. */
  path: text.default('/'),
  /** Smallest free space in bytes. */
  minFreeBytes: number(0, Number.MAX_SAFE_INTEGER).default(0),
  /** Smallest free share of the space. */
  minFreeShare: share.default(0.05),
}

export interface DiskSpace {
  path: string
  freeBytes: number
  freeShare: number
}

export async function diskSpace(path: string): Promise<DiskSpace> {
  const { bavail, blocks, bsize } = await statfs(path)
  return { path, freeBytes: bavail * bsize, freeShare: Math.round((bavail / Math.max(1, blocks)) * 1000) / 1000 }
}

/** Passes while the file system of a path has free space. */
export function diskCheck({ path, minFreeBytes, minFreeShare }: Resolved<typeof diskLimits>): Check {
  return async () => {
    const { freeBytes, freeShare } = await diskSpace(path)
    if (freeBytes < minFreeBytes || freeShare < minFreeShare) {
      throw new Error(`${path} has ${freeBytes} bytes free (${Math.round(freeShare * 100)} %)`)
    }
  }
}

/** @internal */
export const memoryLimits = {
  /** Used heap over its limit. Both are those of V8's old generation, where a full heap ends the process. */
  maxHeapShare: share.default(0.95),
  /** Resident set size over the cgroup's limit, where there is one. */
  maxRssShare: share.default(0.95),
}

export interface MemoryUse {
  /** Resident set size in bytes. */
  used: number
  /** Memory limit in bytes: of the cgroup, else of the machine. */
  total: number
  percentage: number
  /** Of V8's old generation, in bytes. */
  heapUsed: number
  /** Beyond this many bytes in the old generation the process ends. */
  heapLimit: number
}

/** Node reports 0, or a number near 2^64, if no cgroup limits the process. */
function cgroupLimit(): number | undefined {
  const limit = process.constrainedMemory()
  return limit > 0 && limit < totalmem() ? limit : undefined
}

export function memoryUse(): MemoryUse {
  const rss = residentMemory()
  const total = cgroupLimit() ?? totalmem()
  const { used: heapUsed, limit: heapLimit } = heapUse()
  return { used: rss, total, percentage: Math.round((rss / total) * 1000) / 10, heapUsed, heapLimit }
}

/** Passes while neither the heap nor the cgroup is nearly full. */
export function memoryCheck({ maxHeapShare, maxRssShare }: Resolved<typeof memoryLimits>): Check {
  return () => {
    const { used, heapUsed, heapLimit } = memoryUse()
    const limit = cgroupLimit()
    if (heapUsed > heapLimit * maxHeapShare) throw new Error(`heap: ${heapUsed} of ${heapLimit} bytes`)
    if (limit && used > limit * maxRssShare) throw new Error(`resident set: ${used} of ${limit} bytes`)
  }
}

/** @internal */
export const eventLoopLimits = {
  /** Largest delay of a timer in the last second. */
  maxDelayMs: int(1, 600_000, 'milliseconds').default(1_000),
  /** Largest share of the last second in which the event loop was busy. */
  maxUtilization: share.default(0.98),
}

/** Passes while the event loop is responsive, according to the load figures. */
export function eventLoopCheck(
  load: LoadMeter,
  { maxDelayMs, maxUtilization }: Resolved<typeof eventLoopLimits>,
): Check {
  return () => {
    if (load.eventLoopDelayMs > maxDelayMs) throw new Error(`delayed by ${Math.round(load.eventLoopDelayMs)} ms`)
    if (load.eventLoopUtilization > maxUtilization) throw new Error(`busy for ${load.eventLoopUtilization * 100} %`)
  }
}
