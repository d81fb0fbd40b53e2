import { existsSync } from 'node:fs'
import { relative } from 'node:path'
import { usageError } from '../args.ts'
import { type Child, launch } from './child.ts'
import { killMarginMs, type LocalInstanceOptions } from './instances.ts'
import { lastLines } from './server.ts'

/** A program that runs beside the instances, such as a worker of a queue. */
export interface ExtraProgram {
  /** Its label in the log. */
  readonly name: string
  readonly file: string
}

/**
 * Separates `NAME=FILE` from the names of servers.
 *
 * @throws FLEET_ERR_USAGE
 */
export function extraPrograms(given: readonly string[]): { programs: ExtraProgram[]; servers: string[] } {
  const programs: ExtraProgram[] = []
  for (const text of given.filter((each) => each.includes('='))) {
    const [name, file] = [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)]
    const reject = (problem: string) => usageError(`--with ${text}: ${problem}; write e.g. --with worker=./worker.js`)
    if (!/^[a-z][\w-]{0,31}$/i.test(name)) throw reject('NAME must be a letter and up to 31 letters, digits, _ or -')
    if (programs.some((each) => each.name === name)) throw reject(`there is another process ${name}`)
    if (file === '' || !existsSync(file)) throw reject(`no such file: ${JSON.stringify(file)}`)
    programs.push({ name, file: relative('', file) })
  }
  return { programs, servers: given.filter((each) => !each.includes('=')) }
}

export interface ExtraProcessOptions extends Pick<LocalInstanceOptions, 'env' | 'onEvent' | 'onLog' | 'onOutput'> {
  /** How long it may take to stop, ms. */
  shutdownTimeoutMs: number
  /** Whether a change starts it again. */
  watched: boolean
}

/** A process of such a program. Unlike an instance it may end; a failure is reported and does not end the fleet. */
export class ExtraProcess {
  readonly name: string
  readonly #file: string
  readonly #options: ExtraProcessOptions
  #child: Child | undefined
  #stopping = false
  #restarting: Promise<void> | undefined
  #isOutdated = false

  constructor({ name, file }: ExtraProgram, options: ExtraProcessOptions) {
    this.name = name
    this.#file = file
    this.#options = options
  }

  /** Of the running process. */
  get pid(): number | undefined {
    return this.#child?.ended ? undefined : this.#child?.pid
  }

  start(): void {
    const { env, onEvent, onLog, onOutput, watched } = this.#options
    const { name } = this
    const child = launch(process.execPath, [...process.execArgv, this.#file], {
      // The port for operators belongs to the first instance.
      env: { ...env, FLEET_ADMIN_PORT: undefined },
      onOutput(text, stream) {
        onLog?.(name, text, stream)
        onOutput?.(name, text, stream, name)
      },
    })
    this.#child = child
    void child.exit.then(({ code, signal }) => {
      if (this.#stopping || this.#restarting) return
      const output = code === 0 || onOutput ? '' : `\n${lastLines(child, 20)}`
      const next = watched ? 'until a file changes' : ''
      onEvent(`${name} ended with ${signal ?? code}; it is not started again ${next}`.trimEnd() + output)
    })
  }

  /** Stops it and starts it again. A call meanwhile does so once more. */
  restart(): void {
    this.#isOutdated = true
    if (this.#child && !this.#stopping) this.#restarting ??= this.#restart()
  }

  async #restart(): Promise<void> {
    const { shutdownTimeoutMs, onEvent } = this.#options
    while (this.#isOutdated && !this.#stopping) {
      this.#isOutdated = false
      await this.#child?.stop(shutdownTimeoutMs + killMarginMs)
      if (this.#stopping) break
      this.start()
      onEvent(`${this.name} is started again, process ${this.pid}`)
    }
    this.#restarting = undefined
  }

  /** @returns whether it did not have to be killed */
  async stop(): Promise<boolean> {
    const isRunning = this.pid !== undefined
    this.#stopping = true
    await this.#child?.stop(this.#options.shutdownTimeoutMs + killMarginMs)
    await this.#restarting
    return !isRunning || this.#child?.ended?.signal !== 'SIGKILL'
  }
}
