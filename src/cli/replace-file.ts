import { randomBytes } from 'node:crypto'
import { chmod, rename, rm, stat, writeFile } from 'node:fs/promises'

/** Replaces the content of an existing file in one step, and keeps its mode: readers see the old text or the new one. */
export async function replaceFile(file: string, text: string): Promise<void> {
  // In the same folder, because a rename is atomic only within a file system.
  const fresh = `${file}.${randomBytes(6).toString('hex')}.new`
  // `wx` does not follow an existing link.
  await writeFile(fresh, text, { flush: true, flag: 'wx', mode: 0o600 })
  try {
    await chmod(fresh, (await stat(file)).mode)
    await rename(fresh, file)
  } finally {
    await rm(fresh, { force: true })
  }
}
