import { closeSync, constants, existsSync, fstatSync, openSync, readSync, realpathSync } from 'node:fs'
import { isAbsolute, relative } from 'node:path'

/** Bytes. */
export const maxSize = 1_000_000

/**
 * Reads a regular file of at most 1 MB; a device or a pipe could be endless.
 *
 * @param follow whether `path` may be a link: true for a path from the user, false for an entry of a folder
 * @returns `undefined` for anything else
 */
export function readRegular(path: string, follow: boolean): string | undefined {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | (follow ? 0 : constants.O_NOFOLLOW))
  } catch {
    return undefined
  }
  try {
    if (!fstatSync(fd).isFile()) return undefined
    const bytes = Buffer.alloc(Math.min(maxSize, fstatSync(fd).size) + 1)
    let length = 0
    for (let read = 1; read > 0 && length < bytes.length; length += read)
      read = readSync(fd, bytes, length, bytes.length - length, null)
    return length > maxSize ? undefined : bytes.toString('utf8', 0, length)
  } finally {
    closeSync(fd)
  }
}

/** Whether a path exists below a folder, and no link on the way leads out of it. */
export function isWithin(path: string, folder: string): boolean {
  if (!existsSync(path)) return false
  const inside = relative(realpathSync(folder), realpathSync(path))
  return !/^\.\.(?:[\\/]|$)/.test(inside) && !isAbsolute(inside)
}
