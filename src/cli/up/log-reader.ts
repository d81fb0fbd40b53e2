import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { StringDecoder } from 'node:string_decoder'
import { setTimeout as sleep } from 'node:timers/promises'
import { fullFile } from './run-log.ts'

/** Interval at which a file is read again, ms. */
const pollMs = 200
const chunkBytes = 65_536

/** Reads the lines of a log that is written meanwhile, over the moments at which a full file is replaced. */
export class LogReader {
  readonly #file: string
  #open: { readonly fd: number; readonly decoder: StringDecoder; inode: number; at: number; rest: string } | undefined

  constructor(file: string) {
    this.#file = file
  }

  /** What is there: the full file before this one, and this one. */
  *all(): Generator<string> {
    const before = new LogReader(fullFile(this.#file))
    yield* before.more()
    before.close()
    yield* this.more()
  }

  /** The lines that were added since the last call. */
  *more(): Generator<string> {
    for (;;) {
      if (this.#open) yield* this.#read()
      const now = statSync(this.#file, { throwIfNoEntry: false })
      if (now === undefined || now.ino === this.#open?.inode) return
      // What was added before it was replaced.
      if (this.#open) yield* this.#read()
      this.close()
      this.#start()
      if (!this.#open) return
    }
  }

  /** Like {@link LogReader.more}, until `signal` is aborted. */
  async *follow(signal: AbortSignal): AsyncGenerator<string> {
    while (!signal.aborted) {
      yield* this.more()
      await sleep(pollMs, undefined, { signal }).catch(() => {})
    }
  }

  close(): void {
    if (this.#open) closeSync(this.#open.fd)
    this.#open = undefined
  }

  #start(): void {
    try {
      const fd = openSync(this.#file, 'r')
      this.#open = { fd, decoder: new StringDecoder(), inode: fstatSync(fd).ino, at: 0, rest: '' }
    } catch {
      // It was replaced at this moment; the next call reads the new one.
    }
  }

  *#read(): Generator<string> {
    const open = this.#open
    if (!open) return
    const chunk = Buffer.alloc(chunkBytes)
    for (let count = 1; count > 0; open.at += count) {
      count = readSync(open.fd, chunk, 0, chunk.length, open.at)
      const lines = (open.rest + open.decoder.write(chunk.subarray(0, count))).split('\n')
      open.rest = lines.pop() as string
      yield* lines
    }
  }
}
