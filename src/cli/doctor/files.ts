import { existsSync, lstatSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { readRegular } from '../../base/regular-file.ts'
import { usageError } from '../args.ts'
import type { Source } from './facts.ts'
import { isHaproxy, isNginx } from './front-kind.ts'
import { asList, asText, parseYaml, type YamlDocument } from './yaml-file.ts'

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
/** Characters. The YAML parser takes quadratic time for a file with errors. */
const maxYaml = 256 * 1024
/** What {@link collect} could not read. */
export interface Oversized {
  readonly file: string
  readonly why: string
  readonly named: boolean
}
/** Limits for untrusted folders: characters of all files, number of files, depth of folders. */
const [maxTotal, maxFiles, maxDepth] = [32_000_000, 5_000, 32]

/**
 * Reads the named files, and the files in the named folders that may be of a known kind.
 *
 * @param unread gets the files that are too large
 * @throws FLEET_ERR_USAGE for a name that does not exist or is not a regular file, and above the limits
 */
export function collect(names: readonly string[], unread: Oversized[] = []): Source[] {
  const found = new Map<string, Source>()
  let sum = 0
  const add = (path: string, { follow = false, named = false } = {}): boolean => {
    const text = readRegular(path, follow)
    if (text === undefined) {
      // A file that is too large is skipped.
      if (lstatSync(path).isFile())
        unread.push({ file: relative('', path) || path, why: 'it is larger than 1 MB', named })
      return false
    }
    sum += text.length
    found.set(resolve(path), { file: relative('', path) || path, text, ...(named ? { named } : {}) })
    if (found.size > maxFiles || sum > maxTotal) throw usageError('too many files; name the ones to examine')
    return true
  }
  const visit = (folder: string, depth: number): void => {
    if (depth > maxDepth) return
    for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => a.name.localeCompare(b.name))) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) {
        if (!skipped.has(entry.name) && !entry.name.startsWith('.')) visit(path, depth + 1)
      } else if (entry.isFile() && hasKnownName(path)) add(path)
    }
  }
  for (const name of names) {
    if (!existsSync(name)) throw usageError(`${name} is neither a file nor a folder`)
    if (statSync(name).isDirectory()) visit(name, 0)
    else {
      if (!add(name, { follow: true, named: true }) && !statSync(name).isFile())
        throw usageError(`${name} is not a regular file; \`-\` reads YAML from stdin`)
      // Docker reads values from it too.
      const beside = join(dirname(name), '.env')
      if (/compose[^/]*\.ya?ml$/.test(name) && existsSync(beside)) add(beside)
    }
  }
  return [...found.values()]
}

/** Whether a reader may want a file of this name. */
const hasKnownName = (path: string): boolean =>
  /\.(?:conf|cfg|ya?ml|service|tf|env|template|[cm]?[jt]s)$/.test(path) ||
  /^(?:\.env(?:\.\w+)?|Dockerfile.*|.*(?:plan|terraform).*\.json)$/.test(basename(path)) ||
  /\/sites-(?:available|enabled)\/[^/]+$/.test(path)

/** The kind of a file; `undefined` when no reader wants it. */
export function kindOf({ file, text }: Source): Kind | undefined {
  const name = basename(file)
  if (/^\.env(?:\.\w+)?$|\.env$/.test(name))
    return /\.(?:example|sample|template)$/.test(name) ? undefined : 'environment'
  if (/^Dockerfile/.test(name)) return 'image'
  if (/^ecosystem[\w.-]*\.(?:[cm]?js|json)$|pm2[\w.-]*\.(?:[cm]?js|json)$/.test(name)) return 'pm2'
  if ((name.endsWith('.json') || file === '-') && isTerraformOutput(text)) return 'terraform'
  if (name.endsWith('.service')) return 'systemd'
  if (/\.(?:cfg|conf)(?:\.template)?$/.test(name)) return frontKind({ file, text })
  if (/\.ya?ml$/.test(name)) return yamlKind({ file, text })
  // Standard input, or a file without an extension, such as sites-available/shop.
  if (!/\.\w+$/.test(name)) return yamlKind({ file, text }) ?? frontKind({ file, text })
  return /\.[cm]?[jt]s$/.test(name) && !/\.d\.ts$/.test(name) ? 'app' : undefined
}

const frontKind = (source: Source): Kind | undefined =>
  isHaproxy(source) ? 'haproxy' : isNginx(source) ? 'nginx' : undefined

/** Why {@link kindOf} knows no kind of a file. */
export function whyUnread({ file, text }: Source): string {
  if (file.endsWith('.tf')) return 'only Terraform can evaluate it: pass the output of `terraform show -json`'
  if (/\.ya?ml$/.test(file) && text.length > maxYaml) return `it is longer than ${maxYaml / 1024} KB`
  if (/\.(?:example|sample|template)$/.test(file)) return 'it is an example'
  return 'its kind is not known'
}

/** Whether `terraform show -json` printed it. */
const isTerraformOutput = (text: string): boolean =>
  /^\s*\{/.test(text) && /"format_version"\s*:/.test(text) && /"(?:planned_)?values"\s*:/.test(text)

function yamlKind({ file, text }: Source): Kind | undefined {
  if (text.length > maxYaml) return undefined
  if (/^apiVersion:/m.test(text) && /^kind:/m.test(text)) return 'kubernetes'
  return /^services:/m.test(text) || /compose/.test(file) ? 'compose' : undefined
}

/** Patches of kustomizations: parts of objects, which are meaningless alone. */
export function patches(sources: readonly Source[]): ReadonlySet<string> {
  const found = new Set<string>()
  for (const source of sources) {
    if (!/^kustomization\.ya?ml$/.test(basename(source.file))) continue
    for (const document of documentsOf(source)) {
      const listed = document.get(['patches'])
      for (const patch of asList(listed) as ({ path?: unknown } | null)[]) {
        const path = asText(patch?.path)
        if (path) found.add(resolve(dirname(source.file), path))
      }
    }
  }
  return found
}

/** Empty for a file that is too large or not YAML; its reader reports the latter. */
function documentsOf(source: Source): readonly YamlDocument[] {
  if (source.text.length > maxYaml) return []
  try {
    return parseYaml(source)
  } catch {
    return []
  }
}
