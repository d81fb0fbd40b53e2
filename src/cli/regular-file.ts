import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'

/** Bytes. */
const largest = 1_000_000

/**
 * A regular file of a bounded size: a device or a pipe would be read for ever.
 *
 * @param follow whether a link may lead to it: one that a user named, not one that lies in a folder
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
    const bytes = Buffer.alloc(Math.min(largest, fstatSync(fd).size) + 1)
    let length = 0
    for (let read = 1; read > 0 && length < bytes.length; length += read)
      read = readSync(fd, bytes, length, bytes.length - length, null)
    return length > largest ? undefined : bytes.toString('utf8', 0, length)
  } finally {
    closeSync(fd)
  }
}
