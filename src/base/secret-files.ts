import { type BigIntStats, statSync } from 'node:fs'
import { readRegular } from './regular-file.ts'

/**
 * Variables with secrets. Each may instead be given as `NAME_FILE`, the path of a file with the value, as Docker and
 * Kubernetes mount secrets.
 */
export const secretVariables: readonly string[] = [
  'FLEET_SECRET',
  'SESSION_SECRET',
  'JWT_SECRET',
  'JWT_KEYS',
  'FLEET_ADMIN_TOKEN',
  'REDIS_URL',
  'REDIS_PASSWORD',
  'DATABASE_URL',
  'DATABASE_REPLICA_URLS',
]

/** Whether a variable has a secret, and so a `NAME_FILE`. */
export const isSecretVariable = (name: string): boolean =>
  secretVariables.includes(name) || /^DATABASE_URL_REPLICA_\d+$/.test(name)

/** Bytes. */
export const maxSecretBytes = 65_536

/** Contents by path, until the file changes. */
const known = new Map<string, { readonly stamp: string; readonly text: string | undefined }>()

/** The content of a file without its last line break; `undefined` if there is no usable file. */
export function readSecretFile(path: string): string | undefined {
  const stats = statsOf(path)
  if (!stats) return undefined
  const stamp = [stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join()
  const before = known.get(path)
  if (before?.stamp === stamp) return before.text
  const text = stats.size > maxSecretBytes ? undefined : usable(readRegular(path, true))
  known.set(path, { stamp, text })
  return text
}

function statsOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true })
  } catch {
    return undefined
  }
}

function usable(content: string | undefined): string | undefined {
  const text = content?.replace(/^\uFEFF/, '').replace(/\r?\n$/, '')
  // U+FFFD stands for bytes that are not UTF-8: two different binary secrets could become the same text.
  return text === undefined || text.trim() === '' || /[\0\uFFFD]/.test(text) ? undefined : text
}
