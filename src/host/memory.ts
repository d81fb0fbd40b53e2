import { totalmem } from 'node:os'

/** The part of the memory that workers may take together; the rest is the supervisor's, the kernel's and a margin's. */
const share = 0.9

/**
 * The resident set size at which a worker is replaced, in bytes: its part of what this machine has, or of what the
 * cgroup allows when that is less (Node reads cgroup v1 and v2, and reports a huge number or 0 for "no limit").
 *
 * One part more than there are workers, because a replacement starts before the old worker ends.
 */
export function defaultMemoryLimit(
  workers: number,
  { total = totalmem(), constrained = process.constrainedMemory() }: { total?: number; constrained?: number } = {},
): number {
  const usable = constrained > 0 ? Math.min(total, constrained) : total
  return Math.floor((usable * share) / (workers + 1))
}
