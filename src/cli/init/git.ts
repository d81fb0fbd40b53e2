import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { readRegular } from '../../base/regular-file.ts'

/**
 * Files with changes that are not committed, so that git could not undo an edit of only ours. What `npm install fastify-fleet`
 * writes into package.json does not count, because it comes first.
 *
 * @returns `undefined` outside of a repository, or without git
 */
export function uncommitted(folder: string, files: readonly string[]): readonly string[] | undefined {
  const run = (...args: string[]): string =>
    execFileSync('git', ['-C', folder, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  const git = (...args: string[]): string[] =>
    run(...args)
      .split('\0')
      .filter((line) => line !== '')
  try {
    git('rev-parse', '--git-dir')
  } catch {
    return undefined
  }
  if (files.length === 0) return []
  const paths = files.map((file) => `:(literal)${file}`)
  const tracked = new Set(git('ls-files', '-z', '--', ...paths))
  const differs = (file: string): boolean => git('status', '--porcelain', '-z', '--', `:(literal)${file}`).length > 0
  const isOwn = (file: string): boolean =>
    file === 'package.json' &&
    isInstalledOnly(readRegular(join(folder, file), false), () => run('show', `HEAD:./${file}`))
  return files.filter((file) => !tracked.has(file) || (differs(file) && !isOwn(file)))
}

/** Whether nothing but the entry of this package differs from what is committed. */
function isInstalledOnly(now: string | undefined, committed: () => string): boolean {
  const withoutOwn = (text: string | undefined): unknown => {
    const { dependencies, ...rest } = JSON.parse(text ?? '') as { dependencies?: Record<string, unknown> }
    const { 'fastify-fleet': _, ...others } = dependencies ?? {}
    return { ...rest, dependencies: others }
  }
  try {
    return isDeepStrictEqual(withoutOwn(now), withoutOwn(committed()))
  } catch {
    return false
  }
}
