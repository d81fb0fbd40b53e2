import { readdirSync, readFileSync, statSync } from 'node:fs'

/** What every user of the machine can read of a process. */
export const argumentsOf = (pid: number): string => readFileSync(`/proc/${pid}/cmdline`, 'utf8')

export const modeOf = (path: string): number => statSync(path).mode & 0o777

/** The arguments of all processes, as far as they last. */
export function allArguments(): string {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return argumentsOf(Number(pid))
      } catch {
        return ''
      }
    })
    .join('\n')
}
