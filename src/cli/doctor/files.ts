import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { FleetError } from '../../base/errors.ts'
import { readRegular } from '../regular-file.ts'
import type { Source } from './facts.ts'
import { asText, parseYaml, type YamlDocument } from './yaml-file.ts'

export type Kind =
  | 'nginx'
  | 'haproxy'
  | 'compose'
  | 'kubernetes'
  | 'pm2'
  | 'systemd'
  | 'terraform'
  | 'environment'
  | 'image'
  | 'app'

const skipped = new Set([
  'node_modules',
  'dist',
  'coverage',
  'generated',
  'vendor',
  'test',
  'tests',
  '__tests__',
  'bench',
])
/** The time that the YAML parser takes for a file with mistakes grows with the square of its size. */
const largestYaml = 256 * 1024
/** Bytes of all files; files; and folders in each other. The folder may be anybody's. */
const [largestSum, mostFiles, deepest] = [32_000_000, 5_000, 32]

/**
 * The files a user named, and those in the folders a user named.
 *
 * @throws FLEET_ERR_USAGE for a name that is nothing, or no regular file; and for more than doctor reads
 */
export function collect(names: readonly string[]): Source[] {
  const found = new Map<string, Source>()
  let sum = 0
  const add = (path: string, follow = false): boolean => {
    const text = readRegular(path, follow)
    if (text === undefined) return false
    sum += text.length
    found.set(resolve(path), { file: relative('', path) || path, text })
    if (found.size > mostFiles || sum > largestSum)
      throw new FleetError('FLEET_ERR_USAGE', 'these are more files than doctor reads; name the ones to examine')
    return true
  }
  const visit = (folder: string, depth: number): void => {
    if (depth > deepest) return
    for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => a.name.localeCompare(b.name))) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) {
        if (!skipped.has(entry.name) && !entry.name.startsWith('.')) visit(path, depth + 1)
      } else if (entry.isFile() && nameSays(path)) add(path)
    }
  }
  for (const name of names) {
    if (!existsSync(name)) throw new FleetError('FLEET_ERR_USAGE', `${name} is neither a file nor a folder`)
    if (statSync(name).isDirectory()) visit(name, 0)
    else {
      // One that is too large is left out, as in a folder.
      if (!add(name, true) && !statSync(name).isFile())
        throw new FleetError('FLEET_ERR_USAGE', `${name} is not a regular file; \`-\` reads YAML from stdin`)
      // Docker reads it too, and takes values from it.
      const beside = join(dirname(name), '.env')
      if (/compose[^/]*\.ya?ml$/.test(name) && existsSync(beside)) add(beside)
    }
  }
  return [...found.values()]
}

/** Whether a file's name is one that a reader may want. */
const nameSays = (path: string): boolean =>
  /\.(?:conf|cfg|ya?ml|service|tf|env|template|[cm]?[jt]s)$/.test(path) ||
  /^(?:\.env(?:\.\w+)?|Dockerfile.*)$/.test(basename(path))

/** What a file is; `undefined` for one that is nobody's here. */
export function kindOf({ file, text }: Source): Kind | undefined {
  const name = basename(file)
  if (/^\.env(?:\.\w+)?$|\.env$/.test(name))
    return /\.(?:example|sample|template)$/.test(name) ? undefined : 'environment'
  if (/^Dockerfile/.test(name)) return 'image'
  if (/^ecosystem[\w.-]*\.(?:[cm]?js|json)$|pm2[\w.-]*\.(?:[cm]?js|json)$/.test(name)) return 'pm2'
  if (name.endsWith('.tf')) return 'terraform'
  if (name.endsWith('.service')) return 'systemd'
  if (name.endsWith('.cfg')) return /^[ \t]*(?:frontend|backend|listen)[ \t]/m.test(text) ? 'haproxy' : undefined
  if (/\.conf(?:\.template)?$/.test(name)) return 'nginx'
  if (/\.ya?ml$/.test(name) || file === '-') return yamlKind({ file, text })
  return /\.[cm]?[jt]s$/.test(name) && !/\.d\.ts$/.test(name) ? 'app' : undefined
}

function yamlKind({ file, text }: Source): Kind | undefined {
  if (text.length > largestYaml) return undefined
  if (/^apiVersion:/m.test(text) && /^kind:/m.test(text)) return 'kubernetes'
  return /^services:/m.test(text) || /compose/.test(file) ? 'compose' : undefined
}

/** Files that kustomize lays over others: parts of objects, which say nothing alone. */
export function patches(sources: readonly Source[]): ReadonlySet<string> {
  const found = new Set<string>()
  for (const source of sources) {
    if (!/^kustomization\.ya?ml$/.test(basename(source.file))) continue
    for (const document of documentsOf(source)) {
      const listed = document.get(['patches'])
      for (const patch of Array.isArray(listed) ? (listed as ({ path?: unknown } | null)[]) : []) {
        const path = asText(patch?.path)
        if (path) found.add(resolve(dirname(source.file), path))
      }
    }
  }
  return found
}

/** None of a file that is too large or not YAML: its own reader reports the latter. */
function documentsOf(source: Source): readonly YamlDocument[] {
  if (source.text.length > largestYaml) return []
  try {
    return parseYaml(source)
  } catch {
    return []
  }
}
