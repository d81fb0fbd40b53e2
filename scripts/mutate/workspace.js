// A copy of the project in which mutants are applied and tests run. Nothing is written outside its folder, and processes that
// tests leave behind end with it.
import { spawn } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const notCopied = new Set(['node_modules', '.git', 'dist'])
/** Time from SIGTERM to SIGKILL, ms. */
const graceMs = 1_000

export class Workspace {
  #folder = mkdtempSync(join(tmpdir(), 'mutate-'))
  #project = join(this.#folder, 'project')
  #temporary = join(this.#folder, 'tmp')
  /** Source files in their original form, while a mutant is applied. */
  #originals = new Map()
  /** The running test. */
  #child

  constructor(root) {
    // Tests may start PostgreSQL as another user.
    chmodSync(this.#folder, 0o755)
    cpSync(root, this.#project, { recursive: true, filter: (path) => path === root || !notCopied.has(basename(path)) })
    const modules = join(root, 'node_modules')
    if (existsSync(modules)) symlinkSync(modules, join(this.#project, 'node_modules'))
  }

  apply({ file, start, end, replacement }) {
    const path = join(this.#project, file)
    const source = readFileSync(path, 'utf8')
    this.#originals.set(path, source)
    writeFileSync(path, source.slice(0, start) + replacement + source.slice(end))
  }

  restore() {
    for (const [path, source] of this.#originals) writeFileSync(path, source)
    this.#originals.clear()
  }

  /**
   * Runs a test file until it ends, a test fails or the time is over.
   *
   * @returns `passed`, `failed` or `timeout`, and the milliseconds
   */
  async run(test, limitMs) {
    mkdirSync(this.#temporary, { recursive: true })
    chmodSync(this.#temporary, 0o1777)
    const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
    const env = { ...inherited, TMPDIR: this.#temporary, NODE_COMPILE_CACHE: join(this.#folder, 'cache') }
    const started = performance.now()
    // Without --test: that would start another process. A group of its own: it ends with its children.
    const child = spawn(process.execPath, ['--test-reporter=tap', test], {
      cwd: this.#project,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    this.#child = child
    const result = await new Promise((resolve) => {
      const timer = setTimeout(resolve, limitMs, 'timeout')
      let line = ''
      child.stdout.setEncoding('utf8').on('data', (text) => {
        const lines = (line + text).split('\n')
        line = lines.pop()
        if (lines.some((l) => /^\s*not ok /.test(l))) resolve('failed')
      })
      child.on('error', () => resolve('failed'))
      child.on('exit', (code) => {
        clearTimeout(timer)
        resolve(code === 0 ? 'passed' : 'failed')
      })
    })
    const ms = Math.round(performance.now() - started)
    await this.#end(child)
    rmSync(this.#temporary, { recursive: true, force: true, maxRetries: 5 })
    return { result, ms }
  }

  async #end(child) {
    const exited = new Promise((resolve) => void child.once('exit', resolve))
    signal(-child.pid, 'SIGTERM')
    if (child.exitCode === null && child.signalCode === null) {
      const timer = new AbortController()
      await Promise.race([exited, sleep(graceMs, undefined, { signal: timer.signal }).catch(() => {})])
      timer.abort()
    }
    signal(-child.pid, 'SIGKILL')
    this.#child = undefined
    this.#sweep()
  }

  /** Ends processes that left the group of their test: they have a path of this folder. Only on Linux. */
  #sweep() {
    if (!existsSync('/proc/self/environ')) return
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      if (Number(pid) !== process.pid && isOf(pid, this.#folder)) signal(Number(pid), 'SIGKILL')
    }
  }

  /** Ends the running test, and removes the folder. */
  close() {
    if (this.#child) signal(-this.#child.pid, 'SIGKILL')
    this.#sweep()
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

function isOf(pid, folder) {
  try {
    if (readlinkSync(`/proc/${pid}/cwd`).startsWith(`${folder}/`)) return true
    return ['environ', 'cmdline'].some((name) => readFileSync(`/proc/${pid}/${name}`, 'utf8').includes(`${folder}/`))
  } catch {
    // It has ended, or belongs to another user.
    return false
  }
}

function signal(pid, name) {
  try {
    process.kill(pid, name)
  } catch {
    // It has ended.
  }
}
