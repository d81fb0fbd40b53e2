import { randomBytes } from 'node:crypto'
import { chmod, chown, rename, rm, stat, writeFile } from 'node:fs/promises'

/**
 * Replaces the content of an existing file in one step: readers see the old text or the new one. It keeps its mode and, as far as
 * this process may, its owner: a file that root replaces stays readable for the user it belongs to.
 */
export async function replaceFile(file: string, text: string): Promise<void> {
  // In the same folder, because a rename is atomic only within a file system.
  const fresh = `${file}.${randomBytes(6).toString('hex')}.new`
  // `wx` does not follow an existing link.
  await writeFile(fresh, text, { flush: true, flag: 'wx', mode: 0o600 })
  try {
    const [{ mode, uid, gid }, own] = [await stat(file), await stat(fresh)]
    if (uid !== own.uid || gid !== own.gid) await chown(fresh, uid, gid).catch(() => {})
    await chmod(fresh, mode)
    await rename(fresh, file)
  } finally {
    await rm(fresh, { force: true })
  }
}
