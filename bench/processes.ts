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
