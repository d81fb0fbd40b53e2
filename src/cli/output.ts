import { stripVTControlCharacters, styleText } from 'node:util'

type Format = Parameters<typeof styleText>[0]
type Cell = string | number | undefined

export interface Progress {
  /** Advances by `by` steps, default 1. */
  step(by?: number): void
  label(text: string): void
  done(text?: string): void
  fail(text?: string): void
  /** Ends without a message. */
  clear(): void
}

/** A terminal, a pipe or a file. */
export interface OutputStream {
  write(text: string): unknown
  isTTY?: boolean
  columns?: number
  /** Considers `NO_COLOR`, `FORCE_COLOR` and the terminal's capabilities. */
  hasColors?(): boolean
}

/** Keeps colour sequences. Other control characters come from files or servers and could control the terminal. */
const printable = (text: string): string =>
  text.replace(/\p{Cc}/gu, (char, at: number) =>
    char === '\n' || char === '\t' || (char === '\u001b' && /^\[[\d;]{0,12}m/.test(text.slice(at + 1, at + 15)))
      ? char
      : '\ufffd',
  )

const frames = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const frameMs = 80
const barWidth = 24

/**
 * Output of verbs. Results go to stdout; progress, notes and errors go to stderr. With `--json`, stdout has only the
 * documents passed to {@link result}, one per line. Colours are for terminals without `NO_COLOR`.
 */
export class Output {
  readonly json: boolean
  /** Whether progress is drawn in place; otherwise it is plain lines. */
  readonly interactive: boolean
  readonly #stdout: OutputStream
  readonly #stderr: OutputStream
  #onFailure: object = {}
  readonly #live = new Set<() => string>()
  #drawn = 0
  #frame = 0
  #timer: NodeJS.Timeout | undefined

  constructor(options: { json?: boolean; stdout?: OutputStream; stderr?: OutputStream } = {}) {
    this.json = options.json ?? false
    this.#stdout = options.stdout ?? process.stdout
    this.#stderr = options.stderr ?? process.stderr
    this.interactive = this.#stderr.isTTY === true
  }

  /** The width of stdout if it is a terminal. */
  get terminalColumns(): number | undefined {
    return this.#stdout.isTTY ? this.#stdout.columns || 80 : undefined
  }

  /** A copy with another `json`. */
  with(options: { json: boolean }): Output {
    return new Output({ stdout: this.#stdout, stderr: this.#stderr, json: options.json })
  }

  /** Prints a line; nothing with `--json`. */
  line(text = ''): void {
    if (!this.json) this.#write(this.#stdout, `${printable(text)}\n`)
  }

  /** Prints a JSON document on one line; nothing without `--json`. */
  result(value: unknown): void {
    if (this.json) this.#write(this.#stdout, `${JSON.stringify(value)}\n`)
  }

  /** Adds members to the JSON document of an error, e.g. the plan whose step failed. */
  describeFailure(more: object): void {
    this.#onFailure = { ...this.#onFailure, ...more }
  }

  /** Prints the JSON document of an error; nothing without `--json`. */
  failure(error: { readonly code: string | null; readonly message: string }): void {
    this.result({ error, ...this.#onFailure })
  }

  /** Prints a line to stderr. */
  note(text: string): void {
    this.#write(this.#stderr, `${printable(text)}\n`)
  }

  error(text: string): void {
    this.note(`${this.#paint('red', 'error')} ${text}`)
  }

  /** Styles `text` with `util.styleText`; returns it unchanged without colours. */
  style(format: Format, text: string): string {
    return paint(this.#stdout, format, text)
  }

  /** Styles text for {@link note}, like {@link style}. */
  styleNote(format: Format, text: string): string {
    return this.#paint(format, text)
  }

  /** Prints rows under headings; columns of numbers are right-aligned. */
  table(
    rows: readonly Readonly<Record<string, Cell>>[],
    columns: readonly string[] = Object.keys(rows[0] ?? {}),
  ): void {
    if (!this.json) for (const line of formatTable(rows, columns)) this.line(line)
  }

  /** Starts a bar of `total` steps, or a spinner. Without a terminal, prints a line for each new label. */
  progress(label: string, total?: number): Progress {
    let current = label
    let steps = 0
    const draw = (): string => {
      const head =
        total === undefined ? this.#paint('cyan', frames[this.#frame % frames.length] ?? '') : bar(steps, total)
      return `${head} ${current}${total === undefined ? '' : ` ${steps}/${total}`}`
    }
    const end = (last?: string): void => {
      if (!this.#live.delete(draw)) return
      if (this.#live.size === 0) this.#stop()
      if (last !== undefined) this.note(last)
      else this.#refresh()
    }
    this.#live.add(draw)
    if (this.interactive) this.#start()
    else this.note(`… ${label}`)
    return {
      step: (by = 1) => {
        steps = Math.min(steps + by, total ?? Number.POSITIVE_INFINITY)
      },
      label: (text) => {
        if (text === current) return
        current = text
        if (!this.interactive) this.note(`… ${text}`)
      },
      done: (text = current) => end(`${this.#paint('green', '✓')} ${text}`),
      fail: (text = current) => end(`${this.#paint('red', '✗')} ${text}`),
      clear: () => end(),
    }
  }

  /** Shows progress while a task runs. */
  async during<T>(label: string, task: (progress: Progress) => Promise<T>, total?: number): Promise<T> {
    const progress = this.progress(label, total)
    try {
      return await task(progress)
    } finally {
      progress.clear()
    }
  }

  /** Removes unfinished progress, e.g. after an error. */
  close(): void {
    this.#live.clear()
    this.#stop()
    this.#erase()
  }

  #paint(format: Format, text: string): string {
    return paint(this.#stderr, format, text)
  }

  #write(stream: OutputStream, text: string): void {
    this.#erase()
    stream.write(text)
    this.#draw()
  }

  #start(): void {
    this.#timer ??= setInterval(() => {
      this.#frame++
      this.#refresh()
    }, frameMs).unref()
    this.#refresh()
  }

  #stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #refresh(): void {
    this.#erase()
    this.#draw()
  }

  #draw(): void {
    if (!this.interactive) return
    const width = (this.#stderr.columns || 80) - 1
    for (const line of this.#live) this.#stderr.write(`${cut(printable(line()).replaceAll(/[\n\t]+/g, ' '), width)}\n`)
    this.#drawn = this.#live.size
  }

  #erase(): void {
    if (this.#drawn > 0) this.#stderr.write(`\u001b[${this.#drawn}A\u001b[0J`)
    this.#drawn = 0
  }
}

const paint = (stream: OutputStream, format: Format, text: string): string =>
  stream.hasColors?.() ? styleText(format, text, { validateStream: false }) : text

const bar = (steps: number, total: number): string => {
  const full = total > 0 ? Math.round((steps / total) * barWidth) : barWidth
  return '█'.repeat(full) + '░'.repeat(barWidth - full)
}

const visible = (text: string): number => stripVTControlCharacters(text).length

/** A wrapped line would be erased only in part, so a long one is truncated and loses its colour. */
const cut = (text: string, width: number): string =>
  visible(text) > width ? `${stripVTControlCharacters(text).slice(0, Math.max(width - 1, 0))}…` : text

export function formatTable(
  rows: readonly Readonly<Record<string, Cell>>[],
  columns: readonly string[],
): readonly string[] {
  const show = (cell: Cell): string => (cell === undefined ? '' : String(cell))
  const layout = columns.map((name) => ({
    name,
    width: Math.max(name.length, ...rows.map((row) => visible(show(row[name])))),
    right: rows.length > 0 && rows.every((row) => typeof row[name] === 'number' || row[name] === undefined),
  }))
  const set = (cells: readonly string[]): string =>
    layout
      .map(({ width, right }, i) => {
        const gap = ' '.repeat(width - visible(cells[i] ?? ''))
        return right ? gap + (cells[i] ?? '') : (cells[i] ?? '') + gap
      })
      .join('  ')
      .trimEnd()
  return [set(columns.map((name) => name.toUpperCase())), ...rows.map((row) => set(columns.map((c) => show(row[c]))))]
}

export const plural = (count: number, noun: string, nouns = `${noun}s`): string =>
  `${count} ${count === 1 ? noun : nouns}`
