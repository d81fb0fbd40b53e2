import { readdirSync, readFileSync } from 'node:fs'

/** Figures of processes from `/proc` (proc(5)); only Linux has it. */
export const hasProc: boolean = process.platform === 'linux'

/** Clock ticks per second in `/proc/PID/stat`: fixed at 100 for user space on every Linux. */
const ticksPerSecond = 100

/** A process and all that it started. */
export function family(pid: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = read(`/proc/${name}/stat`)
    if (stat) parents.set(Number(name), Number(fields(stat)[1]))
  }
  const found = [pid]
  for (const one of found) for (const [child, parent] of parents) if (parent === one) found.push(child)
  return found
}

/** User and system time of the processes so far, in microseconds. `NaN` where there is no `/proc`. */
export function cpuTime(pids: readonly number[]): number {
  if (!hasProc) return Number.NaN
  let ticks = 0
  for (const pid of pids) {
    const stat = read(`/proc/${pid}/stat`)
    if (stat === undefined) continue
    const after = fields(stat)
    ticks += Number(after[11]) + Number(after[12])
  }
  return (ticks / ticksPerSecond) * 1e6
}

/** What the scheduler has given a process so far, in seconds. */
export interface Scheduled {
  /** Processor time of all its threads. */
  readonly ran: number
  /** The same of its main thread alone, and for how long that had to wait for a core. */
  readonly main: number
  readonly waited: number
}

/** `undefined` where the kernel does not report it (`CONFIG_SCHED_INFO`, or no Linux at all). */
export function scheduled(pid: number): Scheduled | undefined {
  const seconds = (path: string): number[] | undefined =>
    read(path)
      ?.split(' ')
      .map((nanoseconds) => Number(nanoseconds) / 1e9)
  const [main, waited] = seconds(`/proc/${pid}/schedstat`) ?? []
  if (main === undefined || waited === undefined) return undefined
  const threads = readdirSync(`/proc/${pid}/task`)
  const ran = threads.reduce((sum, thread) => sum + (seconds(`/proc/${pid}/task/${thread}/schedstat`)?.[0] ?? 0), 0)
  return { ran, main, waited }
}

/**
 * How much of `seconds` a process had for itself: the time in which it ran, or had nothing to do. What others on its core
 * took from it while it wanted to run is left out, so that a rate by this time is what it would be on a core of its own.
 */
export function ownSeconds(from: Scheduled | undefined, to: Scheduled | undefined, seconds: number): number {
  if (!from || !to) return seconds
  const idle = Math.max(0, seconds - (to.main - from.main) - (to.waited - from.waited))
  return to.ran - from.ran + idle
}

/** Resident memory of the processes in MiB; pages that several of them share are counted for each. */
export function residentMemory(pids: readonly number[]): number {
  if (!hasProc) return Number.NaN
  let kib = 0
  for (const pid of pids) kib += Number(/^VmRSS:\s+(\d+)/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1] ?? 0)
  return kib / 1024
}

/** What stands after the name, which may itself hold spaces and brackets: state, parent, … */
const fields = (stat: string): string[] => stat.slice(stat.lastIndexOf(')') + 2).split(' ')

/** A process may end between two looks. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
