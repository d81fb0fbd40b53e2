import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** Limits of a program: ms, bytes. */
const [longestMs, maxBytes] = [60_000, 16_000_000]

export interface Output {
  readonly stdout?: string
  /** The first line of its message. */
  readonly error?: string
}

/** Runs a program that prints a result. @returns `undefined` when there is no such program */
export async function printed(command: string, args: readonly string[]): Promise<Output | undefined> {
  try {
    return await promisify(execFile)(command, args, { timeout: longestMs, killSignal: 'SIGKILL', maxBuffer: maxBytes })
  } catch (error) {
    const { code, stderr = '' } = error as { code?: unknown; stderr?: string }
    if (code === 'ENOENT') return undefined
    return { error: stderr.trim().split('\n').at(-1) || `${command} failed` }
  }
}
