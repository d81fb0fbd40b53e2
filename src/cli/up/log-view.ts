import { stripVTControlCharacters, type styleText } from 'node:util'
import { usageError } from '../args.ts'
import type { Output } from '../output.ts'
import { LabelledLines } from './lines.ts'

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

/** @throws FLEET_ERR_USAGE */
export function logLevel(text: string): LogLevel {
  if (Object.hasOwn(levels, text)) return text as LogLevel
  throw usageError(`--log-level must be one of ${Object.keys(levels).join(', ')}, not ${JSON.stringify(text)}`)
}

/** Which lines are shown. */
export interface LogFilter {
  /** Of the least severe lines of pino; other lines have none and are shown. @default `trace` */
  readonly level?: LogLevel
  /** Lines of pino with this request id only. */
  readonly request?: string
}

export interface LogViewOptions extends LogFilter {
  /** Width of the longest label, which aligns the lines on a terminal. */
  readonly width?: number
  /** @default 'stderr' */
  readonly to?: 'stdout' | 'stderr'
}

/**
 * Prints lines of several processes, each with the label of its process. On a terminal, labels are coloured and lines
 * of pino become text. Elsewhere each line stays as it is, so that programs can read it.
 */
export class LogView {
  readonly #print: (text: string) => void
  readonly #style: (format: Format, text: string) => string
  readonly #isReadable: boolean
  readonly #filter: LogFilter
  readonly #formats = new Map<string, Format>()
  readonly #width: number
  readonly #lines = new LabelledLines((label, line, group) => this.line(label, line, group))

  constructor(out: Output, { width = 0, to = 'stderr', ...filter }: LogViewOptions = {}) {
    const isError = to === 'stderr'
    this.#print = isError ? (text) => out.note(text) : (text) => out.line(text)
    this.#style = isError ? (format, text) => out.styleNote(format, text) : (format, text) => out.style(format, text)
    this.#isReadable = isError ? out.interactive : out.terminalColumns !== undefined
    this.#filter = filter
    this.#width = width
  }

  /** Prints a chunk of output, see {@link LabelledLines.write}. */
  write(label: string, text: string, stream?: string, group?: string): void {
    this.#lines.write(label, text, stream, group)
  }

  /** @param group processes of one group have one colour */
  line(label: string, line: string, group = label): void {
    if (!passes(line, this.#filter)) return
    if (!this.#isReadable) {
      this.#print(`${label} | ${line}`)
      return
    }
    if (!this.#formats.has(group)) {
      this.#formats.set(group, labelFormats[this.#formats.size % labelFormats.length] as Format)
    }
    const head = this.#style(this.#formats.get(group) as Format, label.padEnd(this.#width))
    const record = recordOf(line)
    for (const each of (record ? this.#readable(record) : line).split('\n')) this.#print(`${head} │ ${each}`)
  }

  #readable(record: Record<string, unknown>): string {
    const { time, msg, reqId, req, res, responseTime, err } = record
    const number = levelOf(record) as number
    const name = levelNames.get(number)
    const level = (name ?? String(number)).toUpperCase().padEnd(5)
    const [method, url] = [field(req, 'method'), field(req, 'url')]
    const status = field(res, 'statusCode')
    const rest = Object.entries(record).filter(([key]) => !shown.has(key))
    const dim = (text: unknown): string => this.#style('dim', String(text))
    const parts = [
      dim(clock(time)),
      this.#style((name && levelFormats[name]) ?? 'white', level),
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

/** Whether a line is shown. */
export function passes(line: string, { level = 'trace', request }: LogFilter): boolean {
  const record = recordOf(line)
  const own = record && levelOf(record)
  if (own !== undefined && own < levels[level]) return false
  return request === undefined || (record?.reqId !== undefined && String(record.reqId) === request)
}

/** What pino logged; `undefined` for any other line. */
export function recordOf(line: string): Record<string, unknown> | undefined {
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
