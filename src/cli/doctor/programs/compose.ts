import { existsSync } from 'node:fs'
import { printed } from './run.ts'

/** What Docker makes of compose files. */
export interface ComposeConfig {
  readonly services?: Readonly<Record<string, unknown>>
  /** Why Docker rejects them. */
  readonly error?: string
}

/**
 * The output of `docker compose config` for files that are merged in this order, with all profiles. A file alone is merged with its
 * override, as Docker does without `-f`.
 *
 * @returns `undefined` without Docker
 */
export async function composeConfig(files: readonly string[]): Promise<ComposeConfig | undefined> {
  const override = files[0]?.replace(/\.ya?ml$/, (extension) => `.override${extension}`)
  const all = files.length === 1 && override !== undefined && existsSync(override) ? [...files, override] : files
  const args = ['compose', ...all.flatMap((file) => ['-f', file]), '--profile', '*', 'config', '--format', 'json']
  const output = await printed('docker', args)
  // Docker without the plugin `compose`.
  if (!output || /is not a docker command|unknown flag/.test(output.error ?? '')) return undefined
  if (output.stdout === undefined) return { error: output.error }
  const { services = {} } = JSON.parse(output.stdout) as ComposeConfig
  return { services }
}
