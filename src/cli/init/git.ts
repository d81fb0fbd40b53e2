import { execFileSync } from 'node:child_process'

/**
 * Files with changes that are not committed, so that git could not undo an edit of only ours.
 *
 * @returns `undefined` outside of a repository, or without git
 */
export function uncommitted(folder: string, files: readonly string[]): readonly string[] | undefined {
  const git = (...args: string[]): string[] =>
    execFileSync('git', ['-C', folder, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
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
  return files.filter(
    (file) => !tracked.has(file) || git('status', '--porcelain', '-z', '--', `:(literal)${file}`).length > 0,
  )
}
