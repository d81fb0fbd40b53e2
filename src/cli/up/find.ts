import { accessSync, constants, globSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { childEnv } from '../../base/env.ts'

/** Folders of servers that are rarely on a user's PATH. */
const serverFolders = ['/usr/sbin', '/usr/local/sbin']

/**
 * Finds a program on PATH, then in the folders where distributions install servers.
 *
 * @param names alternatives, the preferred one first
 * @param folders more places to look in; `*` stands for a version, and the highest one wins
 * @returns its absolute path, or `undefined`
 */
export function findProgram(names: readonly string[], folders: readonly string[] = []): string | undefined {
  const places = [
    ...(childEnv().PATH ?? '').split(delimiter).filter((folder) => folder !== ''),
    ...folders.flatMap((folder) => (folder.includes('*') ? globSync(folder).sort(newestFirst) : [folder])),
    ...serverFolders,
  ]
  for (const name of names) {
    for (const place of places) {
      const file = join(place, name)
      if (isExecutable(file)) return file
    }
  }
  return undefined
}

const newestFirst = (a: string, b: string): number => b.localeCompare(a, 'en', { numeric: true })

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch {
    return false
  }
}
