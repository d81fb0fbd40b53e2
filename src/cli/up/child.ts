import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { childEnv } from '../../base/env.ts'

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface LaunchOptions {
  /** Added to the environment of this process; `undefined` takes a variable away. */
  env?: Record<string, string | undefined>
  cwd?: string
  /** Run as this user; only root may choose. */
  user?: { uid: number; gid: number }
  /** What makes the program end in good order. @default 'SIGTERM' */
  stopSignal?: NodeJS.Signals
  /** Is never ended, but waited for, because half done is worse than done: an installation. @default false */
  uninterrupted?: boolean
  /** Open a Node message channel (`process.send`). @default false */
  ipc?: boolean
  /** Called with each piece of output as it comes. */
  onOutput?: (text: string) => void
}

/** A child process in a process group of its own, which does not outlive this process, however this process ends. */
export interface Child {
  readonly pid: number
  /** What it wrote, the last 1 MiB of each. */
  readonly stdout: string
  readonly stderr: string
  /** Resolves when the process has ended and its output has been read; what descendants still write is not waited for. */
  readonly exit: Promise<Exit>
  /** Set once the process has ended. */
  readonly ended: Exit | undefined
  /** Sends a signal to the process alone and waits for the end, unless the signal is one that does not end a process. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /**
   * Ends the process group: the stop signal, and SIGKILL when that took longer than `graceMs` (default 10 000). What the
   * process left behind in its group is killed.
   */
  stop(graceMs?: number): Promise<void>
  send(message: unknown): void
  /** Waits until the output matches. Rejects when the process ends first or after `timeoutMs` (default 60 000). */
  waitFor(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>
  readonly messages: readonly unknown[]
}

const outputKept = 1 << 20
/** How long output is waited for when descendants keep it open after the end of a process, ms. */
const outputGraceMs = 250
const harmless: ReadonlySet<NodeJS.Signals> = new Set([
  'SIGSTOP',
  'SIGCONT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGHUP',
  'SIGWINCH',
])

/**
 * Starts a program. Its process group is its own, so that Ctrl-C in a terminal reaches this process only, which then
 * ends its children in the right order.
 *
 * @throws when the program cannot be started: it is not there, or not executable
 */
export function launch(command: string, args: readonly string[], options: LaunchOptions = {}): Child {
  if (closing) throw new Error(`${command} is not started, because this process is ending`)
  const { stopSignal = 'SIGTERM' } = options
  const keeper = guard()
  const process = spawn(command, args, {
    cwd: options.cwd,
    env: childEnv(options.env),
    uid: options.user?.uid,
    gid: options.user?.gid,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', options.ipc ? 'ipc' : 'ignore'],
  })
  // Why it could not be started is told later, by an event; that it could not is known at once.
  process.on('error', () => {})
  if (process.pid === undefined) throw new Error(`${command} could not be started`)
  const child = new Launched(process, options.uninterrupted ? undefined : stopSignal, options.onOutput)
  if (!options.uninterrupted) keeper.write(`+ ${child.pid} ${stopSignal.slice(3)}\n`)
  running.add(child)
  child.gone.then(() => {
    running.delete(child)
    keeper.write(`- ${child.pid}\n`)
  })
  return child
}

/** Those of which something may still run. */
const running = new Set<Launched>()
let closing = false

/** Ends every child that is still running, starts no other, and removes the temporary folder. */
export async function stopAll(graceMs?: number): Promise<void> {
  closing = true
  await Promise.all([...running].map((child) => child.stop(graceMs)))
  if (folder !== undefined) await rm(folder, { recursive: true, force: true })
}

let folder: string | undefined

/** A new folder inside this process's one temporary folder, which is removed when this process ends, however it ends. */
export function temporaryFolder(name: string): string {
  guard()
  folder ??= makeRoot()
  return mkdtempSync(join(folder, `${name}-`))
}

function makeRoot(): string {
  const root = mkdtempSync(join(tmpdir(), 'fastify-fleet-'))
  // Traversable, because PostgreSQL started by root runs as another user; the folders inside stay private.
  if (process.getuid?.() === 0) chmodSync(root, 0o711)
  guard().write(`/ ${root}\n`)
  return root
}

/**
 * The guard is a shell that reads from a pipe which only this process holds. The pipe closes when this process ends,
 * by whatever cause, SIGKILL included; the guard then ends what is left, and removes the folders.
 */
const guardScript = `
trap '' INT TERM HUP
children=' ' folders=''
while read -r verb value signal; do
  case $verb in
    +) children="$children$value:$signal " ;;
    -) case $children in *" $value:"*)
         rest=\${children#* $value:}
         children="\${children%% $value:*} \${rest#* }" ;;
       esac ;;
    /) folders="$folders $value" ;;
  esac
done
for child in $children; do kill -s "\${child#*:}" -- "-\${child%:*}"; done
tries=0
while [ $tries -lt 50 ]; do
  left=
  for child in $children; do kill -s 0 -- "-\${child%:*}" && left=1; done
  [ "$left" ] || break
  tries=$((tries + 1))
  sleep 0.2
done
for child in $children; do kill -s KILL -- "-\${child%:*}"; done
for folder in $folders; do rm -rf "$folder"; done
`
let guardPipe: Writable | undefined

function guard(): Writable {
  if (guardPipe) return guardPipe
  const shell = spawn('/bin/sh', ['-c', guardScript], {
    env: { PATH: '/usr/bin:/bin' },
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  shell.unref()
  shell.on('error', () => {})
  guardPipe = shell.stdin
  guardPipe.on('error', () => {})
  ;(guardPipe as unknown as { unref?(): void }).unref?.()
  return guardPipe
}

class Launched implements Child {
  readonly pid: number
  readonly exit: Promise<Exit>
  /** Resolves when nothing is left of the whole group. */
  readonly gone: Promise<void>
  readonly messages: unknown[] = []
  ended: Exit | undefined
  stdout = ''
  stderr = ''
  readonly #process: ChildProcess
  readonly #stopSignal: NodeJS.Signals | undefined
  readonly #watchers = new Set<() => void>()
  readonly #gone = Promise.withResolvers<void>()

  constructor(process: ChildProcess, stopSignal: NodeJS.Signals | undefined, onOutput?: (text: string) => void) {
    this.#process = process
    this.#stopSignal = stopSignal
    this.pid = process.pid as number
    for (const stream of ['stdout', 'stderr'] as const) {
      process[stream]?.setEncoding('utf8').on('data', (text: string) => {
        // Cut now and then: each cut is a copy of all that is kept.
        const output = this[stream] + text
        this[stream] = output.length > 2 * outputKept ? output.slice(-outputKept) : output
        onOutput?.(text)
        for (const watch of this.#watchers) watch()
      })
    }
    process.on('message', (message) => this.messages.push(message))
    this.gone = this.#gone.promise
    this.exit = new Promise((resolve) => {
      process.once('exit', (code, signal) => {
        this.ended = { code, signal }
        if (!this.#signalGroup(0)) this.#gone.resolve()
        const settle = (): void => {
          clearTimeout(impatience)
          for (const watch of this.#watchers) watch()
          resolve({ code, signal })
        }
        // The turn of the loop after that reads what a process that was not scheduled meanwhile has not read yet.
        const impatience = setTimeout(() => setImmediate(settle), outputGraceMs)
        process.once('close', settle)
      })
    })
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (!this.ended) this.#process.kill(signal)
    if (!harmless.has(signal)) await this.exit
  }

  async stop(graceMs = 10_000): Promise<void> {
    if (this.#stopSignal && !this.ended) {
      this.#signalGroup(this.#stopSignal)
      // A stopped process takes no signal but SIGKILL until it is continued.
      this.#signalGroup('SIGCONT')
      const impatience = setTimeout(() => this.#signalGroup('SIGKILL'), graceMs)
      await this.exit
      clearTimeout(impatience)
    }
    await this.exit
    if (!this.#stopSignal || !running.has(this)) return
    // Its workers, when it was killed itself; their number is not ours any more once they are gone.
    this.#signalGroup('SIGKILL')
    this.#gone.resolve()
  }

  /** False when nothing of the group is left. */
  #signalGroup(signal: NodeJS.Signals | 0): boolean {
    try {
      return process.kill(-this.pid, signal)
    } catch {
      return false
    }
  }

  send(message: unknown): void {
    this.#process.send(message as object)
  }

  waitFor(pattern: RegExp, timeoutMs = 60_000): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const settle = (settled: () => void): void => {
        clearTimeout(timer)
        this.#watchers.delete(look)
        settled()
      }
      const look = (): void => {
        const match = pattern.exec(this.stdout) ?? pattern.exec(this.stderr)
        if (match) settle(() => resolve(match))
        else if (this.ended)
          settle(() => reject(new Error(`process ${this.pid} ended without ${pattern}${this.#tail()}`)))
      }
      const timer = setTimeout(
        () => settle(() => reject(new Error(`no ${pattern} within ${timeoutMs} ms${this.#tail()}`))),
        timeoutMs,
      )
      this.#watchers.add(look)
      look()
    })
  }

  #tail(): string {
    const text = `${this.stdout}${this.stderr}`.trim().slice(-2000)
    return text === '' ? '' : `; its output:\n${text}`
  }
}
