import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { until } from './until.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const cache = join(root, 'node_modules/.cache/packed')

/** Runs the npm on PATH with this version of Node.js to its end. */
export function npm(args: readonly string[], cwd: string): Promise<{ stdout: string; stderr: string }> {
  const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}` }
  return promisify(execFile)('npm', args, { cwd, env })
}

/**
 * Packs this package once for all test files of a run, which have the same parent process: two builds at once would
 * overwrite each other. `TEST_PACKAGE` names one that is packed already.
 *
 * @returns the path of the tarball
 */
export async function packed(): Promise<string> {
  if (process.env.TEST_PACKAGE) return process.env.TEST_PACKAGE
  mkdirSync(cache, { recursive: true })
  const hourAgo = Date.now() - 3_600_000
  for (const name of readdirSync(cache)) {
    const old = join(cache, name)
    if (statSync(old).mtimeMs < hourAgo) rmSync(old, { recursive: true, force: true })
  }
  const folder = join(cache, `${process.ppid}`)
  const tarball = join(folder, 'fastify-fleet.tgz')
  const exists = (): boolean => statSync(tarball, { throwIfNoEntry: false }) !== undefined
  if (mkdirSync(folder, { recursive: true }) === undefined) {
    await until(exists, { what: 'the package of another test file', timeoutMs: 600_000 })
    return tarball
  }
  const { stdout } = await npm(['pack', '--silent', '--pack-destination', folder], root)
  const [file = ''] = stdout.trim().split('\n').slice(-1)
  renameSync(join(folder, file), tarball)
  return tarball
}
