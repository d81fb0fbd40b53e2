import type { Command } from '../../src/cli/args.ts'
import { dispatch } from '../../src/cli/dispatch.ts'
import { Output } from '../../src/cli/output.ts'

export interface Said {
  code: number
  stdout: string
  stderr: string
}

/** Runs a verb as the command line does, within this process. */
export async function runCommand(command: Command, ...args: string[]): Promise<Said> {
  const said = { stdout: '', stderr: '' }
  const stream = (name: 'stdout' | 'stderr') => ({ write: (text: string) => (said[name] += text) })
  const out = new Output({ stdout: stream('stdout'), stderr: stream('stderr') })
  const verbs = { [command.name]: async () => ({ default: command }) }
  const code = await dispatch(verbs, [command.name, ...args], out)
  return { code, ...said }
}
