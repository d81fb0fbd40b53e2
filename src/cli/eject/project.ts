import { existsSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { readRegular } from '../../base/regular-file.ts'
import { usageError } from '../args.ts'

/** Values for the copied files. */
export interface Project {
  readonly folder: string
  /** A valid name for images, containers, Kubernetes objects and systemd units. */
  readonly name: string
  /** The app's main file, relative to the folder. */
  readonly app: string
  /** Host name for clients. */
  readonly host: string
  /** Whether the project has Prisma migrations. */
  readonly migrates: boolean
}

export interface ProjectOptions {
  readonly name?: string
  readonly app?: string
  readonly host?: string
}

/** Usual names of an app's main file, in the order of preference. */
export const usual: readonly string[] = [
  'app',
  'server',
  'index',
  'main',
  'src/app',
  'src/server',
  'src/index',
  'src/main',
].flatMap((name) => ['js', 'ts', 'mjs'].map((extension) => `${name}.${extension}`))

/**
 * Reads `package.json` and finds the main file and the migrations of a project. Given values take precedence.
 *
 * @throws FLEET_ERR_USAGE for an invalid name
 */
export function readProject(folder: string, given: ProjectOptions): Project {
  const path = resolve(folder)
  const manifest = manifestOf(path)
  const name = given.name ?? plain(manifest.name ?? basename(path))
  if (!/^[a-z][a-z0-9-]{0,19}$/.test(name))
    throw usageError(
      `\`--name\` must be up to 20 of a-z, 0-9 and -, and begin with a letter, not ${JSON.stringify(name)}`,
    )
  const app = given.app ?? usual.find((file) => existsSync(join(path, file))) ?? manifest.main ?? 'app.js'
  if (!/^[\w@./-]+$/.test(app)) throw usageError('`--app` must be a path of letters, digits and . _ - / @')
  const host = given.host ?? `${name}.example.com`
  if (!/^[a-z0-9.-]+$/i.test(host)) throw usageError('`--host` must be a host name, e.g. shop.example.com')
  return { folder: path, name, app, host, migrates: existsSync(join(path, 'prisma/migrations')) }
}

function manifestOf(folder: string): { name?: string; main?: string } {
  const file = join(folder, 'package.json')
  if (!existsSync(file)) return {}
  try {
    const manifest = JSON.parse(readRegular(file, true) ?? '') as { name?: unknown; main?: unknown } | null
    const textOf = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
    return { name: textOf(manifest?.name), main: textOf(manifest?.main) }
  } catch {
    throw usageError(`${file} is not JSON`)
  }
}

/** `@acme/Shop_api` becomes `shop-api`. */
const plain = (name: string): string =>
  name
    .replace(/^@[^/]*\//, '')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^[^a-z]+|-+$/g, '')
    .slice(0, 20)
    .replace(/-+$/, '') || 'fleet'
