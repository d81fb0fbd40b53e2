import { getHeapSpaceStatistics, getHeapStatistics } from 'node:v8'
import { nodeOptions } from '../../base/env.ts'

const mib = 2 ** 20

/** Use of V8's old generation, in bytes. */
export interface HeapUse {
  used: number
  /** A process whose old generation exceeds this ends with `JavaScript heap out of memory`. */
  limit: number
}

const young = new Set(['new_space', 'new_large_object_space'])

/**
 * `heap_size_limit` of V8 is no limit for this: it also counts the young generation, which is up to 192 MiB. A process with
 * `--max-old-space-size=128` ends at 128 MiB, 40 % of its `heap_size_limit`.
 */
export function heapUse(): HeapUse {
  let used = 0
  for (const space of getHeapSpaceStatistics()) if (!young.has(space.space_name)) used += space.space_used_size
  const total = getHeapStatistics().heap_size_limit
  return { used, limit: oldGenerationLimit(total, nodeOptions()) }
}

/**
 * Subtracts the young generation from `heap_size_limit`: three semi-spaces, whose size is a power of two that depends on the
 * old generation, unless an option sets it.
 *
 * Source: V8, `Heap::MaxReserved()`, `Heap::YoungGenerationSizeFromOldGenerationSize()` and `Heap::ConfigureHeap()`.
 *
 * @param total in bytes
 * @param options of Node, in the order in which they apply
 * @param release of V8
 */
export function oldGenerationLimit(total: number, options: string, release: string = process.versions.v8): number {
  const option = (name: string): number =>
    Number([...options.replaceAll('_', '-').matchAll(new RegExp(`--${name}[= ](\\d+)`, 'g'))].at(-1)?.[1] ?? 0) * mib
  const given = option('max-old-space-size')
  if (given > 0) return Math.min(given, total)
  const semiSpace = option('max-semi-space-size')
  if (semiSpace > 0) return Math.max(total - 3 * semiSpace, total / 4)
  const [ratio, most] = Number.parseInt(release, 10) >= 13 ? [32, 64] : [128, 16]
  // A limit in percent of the memory is a given one for V8, which then reserves the largest young generation.
  for (let size = options.includes('old-space-size-percentage') ? most : 1; size < most; size *= 2) {
    const limit = total - 3 * size * mib
    if (limit <= size * (limit <= 256 * mib ? 256 : ratio) * mib) return limit
  }
  return Math.max(total - 3 * most * mib, total / 4)
}
