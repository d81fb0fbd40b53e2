import { existsSync } from 'node:fs'
import { extname, resolve } from 'node:path'
import { usageError } from '../../args.ts'
import { launch } from '../../up/child.ts'
import type { AppReport } from './check-hook.ts'

/** The time of a boot with slow dependencies, ms. */
const longestMs = 60_000

const hook = new URL(`./check-hook${extname(import.meta.url)}`, import.meta.url).href

/**
 * Starts an app in check mode, in a process of its own with this process's environment, and asks for its effective
 * configuration. The app does not listen.
 *
 * @throws FLEET_ERR_USAGE when there is no such file, or the program reports nothing
 */
export async function askApp(file: string, limitMs: number = longestMs): Promise<AppReport> {
  if (!existsSync(file)) throw usageError(`--app ${file}: no such file`)
  const child = launch(process.execPath, ['--import', hook, resolve(file)], { ipc: true, stopSignal: 'SIGKILL' })
  const timer = setTimeout(() => void child.stop(0), limitMs)
  const { code, signal } = await child.exit
  clearTimeout(timer)
  await child.stop(0)
  const report = child.messages.find((message) => (message as AppReport | null)?.doctor === 'report')
  if (report) return report as AppReport
  const output = `${child.stdout}${child.stderr}`.trim().slice(-2_000)
  const why = signal ? `did not report within ${limitMs / 1_000} s` : `ended with code ${code}, without a Fastify app`
  throw usageError(`--app ${file} ${why}${output && `; its output:\n${output}`}`)
}
