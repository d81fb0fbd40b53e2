import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { childEnv } from '../../base/env.ts'
import { temporaryFolder } from './child.ts'
import { findProgram } from './find.ts'

/** Programs that open an address in the user's browser. */
const openers: Partial<Record<NodeJS.Platform, readonly [string, ...string[]]>> = {
  darwin: ['open'],
  // `start` belongs to the shell; its first argument is a title.
  win32: ['cmd', '/c', 'start', '""'],
}

/**
 * Opens an address in the browser.
 *
 * @returns why that is not possible, if so
 */
export async function openInBrowser(
  url: string,
  platform: NodeJS.Platform = process.platform,
): Promise<string | undefined> {
  const [name, ...args] = openers[platform] ?? ['xdg-open']
  const program = platform === 'win32' ? name : findProgram([name])
  if (!program) return `${name} is not installed`
  // Every user can read the arguments of a process, and the address signs in. So it is in a private file.
  const file = join(temporaryFolder('open'), 'dashboard.html')
  writeFileSync(file, `<!doctype html><meta http-equiv="refresh" content="0; url=${url}">`, { mode: 0o600 })
  const address = pathToFileURL(file).href
  // Not a child that ends with this process: it may be the browser.
  const child = spawn(program, [...args, address], {
    detached: true,
    stdio: 'ignore',
    env: childEnv(),
    windowsVerbatimArguments: true,
  })
  child.unref()
  return await new Promise((resolve) => {
    const timer = setTimeout(() => resolve(undefined), 2_000).unref()
    const settle = (why?: string): void => {
      clearTimeout(timer)
      resolve(why)
    }
    child.once('error', (error) => settle(error.message))
    child.once('exit', (code) => settle(code === 0 ? undefined : `${name} ended with ${code}`))
  })
}
