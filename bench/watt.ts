import { freePort } from '../src/cli/up/port.ts'
import type { Machine, Program } from './machine.ts'

/** Watt with one worker and its metrics on, as `wattpm start` runs `programs/watt`. */
export async function watt(machine: Machine): Promise<Program> {
  const port = await freePort(2)
  const at = (path: string): string => new URL(path, import.meta.url).pathname
  const child = machine.run(process.execPath, [at('node_modules/wattpm/bin/cli.js'), 'start'], {
    cwd: at('programs/watt'),
    env: { PORT: String(port), METRICS_PORT: String(port + 1) },
  })
  await child.waitFor(new RegExp(`is now listening at http://127\\.0\\.0\\.1:${port}`), 60_000)
  return { port, pid: child.pid, child, stop: () => child.stop(5_000) }
}
