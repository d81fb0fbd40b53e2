// What the processes of `fleet up` print, for `fleet logs`: one file for each front port, in node_modules/.cache of the project. A full file
// is renamed to `.1` and replaces the one before it.
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { LabelledLines } from './lines.ts'
import { projectFolder } from './needs.ts'

/** Size at which a file is full, bytes. A run keeps two of them. */
const maxLogBytes = 5_000_000
/** Number of ports whose logs are kept. */
const maxLogs = 8

const logFolder = (): string => join(projectFolder(process.cwd()), 'node_modules/.cache/fastify-fleet')
export const logFile = (port: number): string => join(logFolder(), `up-${port}.log`)
/** The file before that one. */
export const fullFile = (file: string): string => `${file}.1`

/** Logs of this project, the last one written first. */
export function logFiles(): string[] {
  const folder = logFolder()
  const written = (file: string): number => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
  let names: string[]
  try {
    names = readdirSync(folder)
  } catch {
    return []
  }
  const files = names.filter((name) => /^up-\d+\.log$/.test(name)).map((name) => join(folder, name))
  return files.sort((a, b) => written(b) - written(a))
}

/** Separates the label from the line. A label has no spaces. */
const separator = ' | '
/** The label and the line of a line in the file. */
export function entryOf(text: string): { readonly label: string; readonly line: string } | undefined {
  const at = text.indexOf(separator)
  return at < 1 ? undefined : { label: text.slice(0, at), line: text.slice(at + separator.length) }
}

/** Keeps what processes print, with their labels. */
export class RunLog {
  readonly #file: string
  readonly #maxBytes: number
  readonly #onError: (message: string) => void
  readonly #lines = new LabelledLines((label, line) => this.#append(`${label}${separator}${line}\n`))
  #fd: number | undefined
  #size = 0

  /**
   * Replaces the log of the run before.
   *
   * @param onError called once if the log cannot be written; nothing else depends on it
   */
  constructor(file: string, onError: (message: string) => void, maxBytes: number = maxLogBytes) {
    this.#file = file
    this.#maxBytes = maxBytes
    this.#onError = onError
    this.#try(() => {
      rmSync(fullFile(file), { force: true })
      rmSync(file, { force: true })
      this.#open()
    })
  }

  write(label: string, text: string, stream?: string): void {
    this.#lines.write(label, text, stream)
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }

  #append(text: string): void {
    this.#try(() => {
      if (this.#fd === undefined) return
      if (this.#size > this.#maxBytes) {
        this.close()
        renameSync(this.#file, fullFile(this.#file))
        this.#open()
      }
      this.#size += writeSync(this.#fd, text)
    })
  }

  /** Apps may log secrets, so nobody else may read it. */
  #open(): void {
    this.#fd = openSync(this.#file, 'a', 0o600)
    this.#size = fstatSync(this.#fd).size
  }

  #try(what: () => void): void {
    try {
      what()
    } catch (error) {
      this.close()
      this.#onError(`no log for \`fleet logs\`: ${(error as Error).message}`)
    }
  }
}

/** Starts the log of a run of this project. */
export function openRunLog(port: number, onError: (message: string) => void): RunLog {
  const file = logFile(port)
  try {
    mkdirSync(logFolder(), { recursive: true, mode: 0o700 })
    const others = logFiles().filter((each) => basename(each) !== basename(file))
    for (const old of others.slice(maxLogs - 1)) for (const each of [old, fullFile(old)]) rmSync(each, { force: true })
  } catch {
    // The log reports it.
  }
  return new RunLog(file, onError)
}
