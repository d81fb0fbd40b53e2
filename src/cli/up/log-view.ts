import { stripVTControlCharacters, type styleText } from 'node:util'
import { usageError } from '../args.ts'
import type { Output } from '../output.ts'

type Format = Parameters<typeof styleText>[0]

/** Pino's levels, the least severe one first. */
const levels = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60 } as const
export type LogLevel = keyof typeof levels
const levelFormats: Readonly<Record<LogLevel, Format>> = {
  ...{ trace: 'gray', debug: 'blue', info: 'green', warn: 'yellow', error: 'red', fatal: ['red', 'bold'] },
}
const labelFormats = ['cyan', 'magenta', 'yellow', 'blue', 'green', 'red'] as const

/** Shown in a place of their own, or the same in each line of an instance. */
const shown: ReadonlySet<string> = new Set(
  'level time pid hostname name msg v reqId req res responseTime err'.split(' '),
)
/** An incomplete line is shown after this time without more of it, ms. */
const incompleteAfterMs = 200

/** @throws FLEET_ERR_USAGE */
export function logLevel(text: string): LogLevel {
  if (Object.hasOwn(levels, text)) return text as LogLevel
  throw usageError(`--log-level must be one of ${Object.keys(levels).join(', ')}, not ${JSON.stringify(text)}`)
}

/**
 * Prints the output of several processes, each line with the label of its process. On a terminal, labels are coloured and lines
 * of pino become text. Elsewhere each line stays as it is, so that programs can read it.
 */
export class LogView {
  readonly #out: Output
  readonly #least: number
  readonly #incomplete = new Map<string, { text: string; timer: NodeJS.Timeout }>()
  readonly #formats = new Map<string, Format>()
  readonly #width: number

  /**
   * @param level of the least severe lines of pino to show; other lines are always shown
   * @param width of the longest label, which aligns the lines on a terminal
   */
  constructor(out: Output, { level = 'trace', width = 0 }: { level?: LogLevel; width?: number } = {}) {
    this.#out = out
    this.#least = levels[level]
    this.#width = width
  }

  /**
   * @param label of the process
   * @param group processes of one group have one colour, e.g. an instance and its successor
   */
  write(label: string, text: string, stream = 'stdout', group = label): void {
    const key = `${label} ${stream}`
    const before = this.#incomplete.get(key)
    clearTimeout(before?.timer)
    this.#incomplete.delete(key)
    const lines = `${before?.text ?? ''}${text}`.split(/\r?\n/)
    const rest = lines.pop() as string
    for (const line of lines) this.#line(label, group, line)
    if (rest === '') return
    const timer = setTimeout(() => {
      this.#incomplete.delete(key)
      this.#line(label, group, rest)
    }, incompleteAfterMs)
    this.#incomplete.set(key, { text: rest, timer: timer.unref() })
  }

  #line(label: string, group: string, line: string): void {
    const record = parse(line)
    const level = record && levelOf(record)
    if (level !== undefined && level < this.#least) return
    if (!this.#out.interactive) {
      this.#out.note(`${label} | ${line}`)
      return
    }
    if (!this.#formats.has(group)) {
      this.#formats.set(group, labelFormats[this.#formats.size % labelFormats.length] as Format)
    }
    const head = this.#out.styleNote(this.#formats.get(group) as Format, label.padEnd(this.#width))
    for (const each of (record ? this.#readable(record) : line).split('\n')) this.#out.note(`${head} │ ${each}`)
  }

  #readable(record: Record<string, unknown>): string {
    const { time, msg, reqId, req, res, responseTime, err } = record
    const number = levelOf(record) as number
    const name = levelNames.get(number)
    const level = (name ?? String(number)).toUpperCase().padEnd(5)
    const [method, url] = [field(req, 'method'), field(req, 'url')]
    const status = field(res, 'statusCode')
    const rest = Object.entries(record).filter(([key]) => !shown.has(key))
    const dim = (text: unknown): string => this.#out.styleNote('dim', String(text))
    const parts = [
      dim(clock(time)),
      this.#out.styleNote((name && levelFormats[name]) ?? 'white', level),
      typeof msg === 'string' ? stripVTControlCharacters(msg) : '',
      method && url ? `${method} ${url}` : '',
      status ?? '',
      typeof responseTime === 'number' ? `${responseTime.toFixed(1)} ms` : '',
      reqId === undefined ? '' : dim(reqId),
      rest.length > 0 ? dim(JSON.stringify(Object.fromEntries(rest))) : '',
    ]
    const stack = field(err, 'stack') ?? field(err, 'message')
    return [parts.filter((part) => part !== '').join(' '), ...(stack === undefined ? [] : [stack])].join('\n')
  }
}

const levelNames: ReadonlyMap<number, LogLevel> = new Map(
  Object.entries(levels).map(([name, number]) => [number, name as LogLevel]),
)

function parse(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    const record = JSON.parse(line) as Record<string, unknown>
    return levelOf(record) === undefined ? undefined : record
  } catch {
    return undefined
  }
}

/** A number, or a name if the app formats levels so. */
function levelOf({ level }: Record<string, unknown>): number | undefined {
  if (typeof level === 'number') return level
  const name = String(level).toLowerCase()
  return Object.hasOwn(levels, name) ? levels[name as LogLevel] : undefined
}

/** A text or number of an object, if it has it. */
function field(value: unknown, name: string): string | undefined {
  const found = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined
  if (typeof found === 'number') return String(found)
  return typeof found === 'string' ? stripVTControlCharacters(found) : undefined
}

/** Local time of day with milliseconds. */
function clock(time: unknown): string {
  const date = new Date(typeof time === 'number' || typeof time === 'string' ? time : Number.NaN)
  if (Number.isNaN(date.getTime())) return ''
  const two = (value: number): string => String(value).padStart(2, '0')
  const [hours, minutes, seconds] = [date.getHours(), date.getMinutes(), date.getSeconds()]
  return `${two(hours)}:${two(minutes)}:${two(seconds)}.${String(date.getMilliseconds()).padStart(3, '0')}`
}
