import { totalmem } from 'node:os'

/** Share of the memory for all workers together; the rest is for the supervisor, the kernel and a margin. */
const share = 0.9

/**
 * The resident set size at which a worker is replaced, in bytes: its share of the machine's memory, or of the cgroup limit
 * if that is lower (Node reads cgroup v1 and v2, and reports a huge number or 0 for "no limit").
 *
 * The memory is divided by one more than the number of workers, because a replacement starts before the old worker ends.
 */
export function defaultMemoryLimit(
  workers: number,
  { total = totalmem(), constrained = process.constrainedMemory() }: { total?: number; constrained?: number } = {},
): number {
  const usable = constrained > 0 ? Math.min(total, constrained) : total
  return Math.floor((usable * share) / (workers + 1))
}
