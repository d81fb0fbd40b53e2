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
  /** Added to the environment of this process; `undefined` removes a variable. */
  env?: Record<string, string | undefined>
  cwd?: string
  /** Run as this user; requires root. */
  user?: { uid: number; gid: number }
  /** The signal for a graceful exit. @default 'SIGTERM' */
  stopSignal?: NodeJS.Signals
  /** Wait for the program instead of ending it, e.g. for an installation. @default false */
  uninterrupted?: boolean
  /** Open a Node message channel (`process.send`). @default false */
  ipc?: boolean
  /** Called with each chunk of output. */
  onOutput?: OnOutput
}
export type OnOutput = (text: string, stream: 'stdout' | 'stderr') => void

const maxOutput = 1 << 20
/** Limit for reading the output after the exit, when descendants keep it open; ms. */
const outputGraceMs = 250
const nonFatal: ReadonlySet<NodeJS.Signals> = new Set([
  'SIGSTOP',
  'SIGCONT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGHUP',
  'SIGWINCH',
])

/**
 * Starts a program in its own process group, so that Ctrl-C reaches only this process, which then ends its children in
 * order.
 *
 * @throws when the program does not exist or is not executable
 */
export function launch(command: string, args: readonly string[], options: LaunchOptions = {}): Child {
  if (closing) throw new Error(`${command} cannot start while this process exits`)
  const { stopSignal = 'SIGTERM' } = options
  const pipe = guard()
  const process = spawn(command, args, {
    cwd: options.cwd,
    env: childEnv(options.env),
    uid: options.user?.uid,
    gid: options.user?.gid,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', options.ipc ? 'ipc' : 'ignore'],
  })
  // The event follows later; a missing pid reports the failure at once.
  process.on('error', () => {})
  if (process.pid === undefined) throw new Error(`${command} could not be started`)
  const child = new Child(process, options.uninterrupted ? undefined : stopSignal, options.onOutput)
  if (!options.uninterrupted) pipe.write(`+ ${child.pid} ${stopSignal.slice(3)}\n`)
  running.add(child)
  child.gone.then(() => {
    running.delete(child)
    pipe.write(`- ${child.pid}\n`)
  })
  return child
}

/** Children of which a process may still run. */
const running = new Set<Child>()
let closing = false

/** Stops all children, prevents new ones, and removes the temporary folder. */
export async function stopAll(graceMs?: number): Promise<void> {
  closing = true
  await Promise.all([...running].map((child) => child.stop(graceMs)))
  if (folder !== undefined) await rm(folder, { recursive: true, force: true })
}

let folder: string | undefined

/** A new folder in the temporary folder of this process, which is removed at exit, even after SIGKILL. */
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
 * The guard is a shell that reads from a pipe of this process. The pipe closes when this process exits for any reason, including SIGKILL.
 * The guard then ends the remaining children and removes the folders.
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

/** A child process in its own process group. It never outlives this process, even after SIGKILL. */
export class Child {
  readonly pid: number
  /** Resolves when the process has exited and its output has been read, without the output of its descendants. */
  readonly exit: Promise<Exit>
  /** Resolves when the whole group has exited. */
  readonly gone: Promise<void>
  readonly messages: unknown[] = []
  /** Set after the exit. */
  ended: Exit | undefined
  /** The last 1 MiB of each output. */
  stdout = ''
  stderr = ''
  readonly #process: ChildProcess
  readonly #stopSignal: NodeJS.Signals | undefined
  readonly #watchers = new Set<() => void>()
  readonly #gone = Promise.withResolvers<void>()

  constructor(process: ChildProcess, stopSignal: NodeJS.Signals | undefined, onOutput?: OnOutput) {
    this.#process = process
    this.#stopSignal = stopSignal
    this.pid = process.pid as number
    for (const stream of ['stdout', 'stderr'] as const) {
      process[stream]?.setEncoding('utf8').on('data', (text: string) => {
        // Truncate rarely, because each truncation copies the rest.
        const output = this[stream] + text
        this[stream] = output.length > 2 * maxOutput ? output.slice(-maxOutput) : output
        onOutput?.(text, stream)
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
          clearTimeout(timer)
          for (const watch of this.#watchers) watch()
          resolve({ code, signal })
        }
        // `setImmediate` reads pending output first if this process was not scheduled meanwhile.
        const timer = setTimeout(() => setImmediate(settle), outputGraceMs)
        process.once('close', settle)
      })
    })
  }

  /** Sends a signal to the process only. Waits for the exit if the signal ends a process. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (!this.ended) this.#process.kill(signal)
    if (!nonFatal.has(signal)) await this.exit
  }

  /** Sends the stop signal to the process group, and SIGKILL after `graceMs`. Remaining descendants are killed. */
  async stop(graceMs: number = 10_000): Promise<void> {
    if (this.#stopSignal && !this.ended) {
      this.#signalGroup(this.#stopSignal)
      // A stopped process handles only SIGKILL until SIGCONT.
      this.#signalGroup('SIGCONT')
      const timer = setTimeout(() => this.#signalGroup('SIGKILL'), graceMs)
      await this.exit
      clearTimeout(timer)
    }
    await this.exit
    if (!this.#stopSignal || !running.has(this)) return
    // Kills the workers of a killed process. The group id may be reused once they are gone.
    this.#signalGroup('SIGKILL')
    this.#gone.resolve()
  }

  /** @returns false when the group has no process */
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

  /** Waits until the output matches. Rejects when the process exits first or after `timeoutMs`. */
  waitFor(pattern: RegExp, timeoutMs: number = 60_000): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const settle = (settled: () => void): void => {
        clearTimeout(timer)
        this.#watchers.delete(check)
        settled()
      }
      const check = (): void => {
        const match = pattern.exec(this.stdout) ?? pattern.exec(this.stderr)
        if (match) settle(() => resolve(match))
        else if (this.ended)
          settle(() => reject(new Error(`process ${this.pid} ended without ${pattern}${this.#tail()}`)))
      }
      const timer = setTimeout(
        () => settle(() => reject(new Error(`no ${pattern} within ${timeoutMs} ms${this.#tail()}`))),
        timeoutMs,
      )
      this.#watchers.add(check)
      check()
    })
  }

  #tail(): string {
    const text = `${this.stdout}${this.stderr}`.trim().slice(-2000)
    return text === '' ? '' : `; its output:\n${text}`
  }
}
