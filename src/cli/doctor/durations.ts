import { lookup } from '../../base/dictionary.ts'

const units = lookup<Readonly<Record<string, number>>>({
  us: 0.001,
  usec: 0.001,
  ms: 1,
  msec: 1,
  s: 1_000,
  sec: 1_000,
  second: 1_000,
  seconds: 1_000,
  m: 60_000,
  min: 60_000,
  minute: 60_000,
  minutes: 60_000,
  h: 3_600_000,
  hr: 3_600_000,
  hour: 3_600_000,
  hours: 3_600_000,
  d: 86_400_000,
  day: 86_400_000,
  days: 86_400_000,
  w: 604_800_000,
})

/**
 * Parses a duration of a configuration file: `60s`, `1m30s`, `500ms`, `2min 20s`.
 *
 * @param bare the unit of a number without one: `s` in nginx, systemd and Terraform, `ms` in HAProxy
 * @returns milliseconds, or `undefined` for anything else, such as a variable or `infinity`
 */
export function duration(text: string, bare: 'ms' | 's' = 's'): number | undefined {
  const trimmed = text.trim()
  if (trimmed.length > 64) return undefined
  if (/^\d+(?:\.\d+)?$/.test(trimmed)) return Number(trimmed) * (units[bare] ?? 1)
  if (!/^(?:\d+(?:\.\d+)?\s*[a-z]+\s*)+$/.test(trimmed)) return undefined
  let total = 0
  for (const [, count, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]+)/g)) {
    const ms = units[unit ?? '']
    if (ms === undefined) return undefined
    total += Number(count) * ms
  }
  return total
}

/** `1.5 s`, `250 ms`, `2 min`. */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${ms} ms`
  return ms >= 120_000 && ms % 60_000 === 0 ? `${ms / 60_000} min` : `${ms / 1_000} s`
}
