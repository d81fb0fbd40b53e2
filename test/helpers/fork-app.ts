import './cleanup.ts'
import { type Child, launch } from '../../src/cli/up/child.ts'

export interface ForkOptions {
  /** Added to the environment; `undefined` removes a variable. */
  env?: Record<string, string | number | undefined>
  args?: readonly string[]
  /** Options for Node itself, e.g. `--max-old-space-size=64`. */
  execArgv?: readonly string[]
  /** Open a message channel, as pm2 does. @default false */
  ipc?: boolean
  cwd?: string
}

export type App = Child

/** Runs a program with this Node. It is stopped at the end of the test file at the latest. */
export function forkApp(file: string | URL, options: ForkOptions = {}): App {
  const given = Object.entries(options.env ?? {}).map(([name, value]) => [name, value?.toString()])
  const path = file instanceof URL ? file.pathname : file
  return launch(process.execPath, [...(options.execArgv ?? []), path, ...(options.args ?? [])], {
    // The test runner's variable would turn a forked test program into one of its workers.
    env: { NODE_TEST_CONTEXT: undefined, ...Object.fromEntries(given) },
    cwd: options.cwd,
    ipc: options.ipc,
    stopSignal: 'SIGKILL',
  })
}
