import { readFileSync, realpathSync } from 'node:fs'
import { dirname, join, sep } from 'node:path'

/**
 * The version in the `package.json` of the application: the nearest one above the main program, or above the working
 * directory if the program is a package such as fastify-cli.
 *
 * @param main path of the main program
 * @returns `undefined` without one
 */
export function appVersion(
  main: string | undefined = process.argv[1],
  folder: string = process.cwd(),
): string | undefined {
  const real = main && realPath(main)
  const isPackage = real?.split(sep).includes('node_modules')
  // As given first: the program of a release is often a link to another folder's.
  const starts = !real || isPackage ? [folder] : [main as string, real, folder]
  for (const start of starts) {
    const found = nearest(start)
    if (found) return found.version
  }
  return undefined
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}

/** The nearest `package.json` that describes a package: a build may add one with only a `type`. */
function nearest(start: string): { version?: string } | undefined {
  for (let at = start; ; at = dirname(at)) {
    const { name, version } = manifest(join(at, 'package.json'))
    if (typeof version === 'string')
      return { version: version.replaceAll(/[^\w.:@-]/g, '-').slice(0, 128) || undefined }
    if (typeof name === 'string') return {}
    if (at === dirname(at)) return undefined
  }
}

function manifest(path: string): { name?: unknown; version?: unknown } {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) ?? {}
  } catch {
    return {}
  }
}
