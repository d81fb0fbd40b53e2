import { type Dirent, existsSync, lstatSync, readdirSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { isWithin, maxSize, readRegular } from '../../base/regular-file.ts'
import { usageError } from '../args.ts'
import { byteOrderMark, type Kind, type Source } from './facts.ts'
import { isHaproxy, isNginx } from './front-kind.ts'
import { referencesOf } from './readers/references.ts'
import { asList, asText, parseYaml, type YamlDocument } from './yaml-file.ts'

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
export interface Unreadable {
  readonly file: string
  readonly why: string
  readonly named: boolean
}
/** Limits for untrusted folders: characters of all files, number of files, depth of folders. */
const [maxTotal, maxFiles, maxDepth] = [32_000_000, 5_000, 32]

/**
 * Reads the named files, and the files in the named folders that may be of a known kind.
 *
 * @param unread gets what cannot be read: files that are too large, links out of the folder, missing permissions
 * @throws FLEET_ERR_USAGE for a name that does not exist or is not a regular file, and above the limits
 */
export function collect(names: readonly string[], unread: Unreadable[] = []): Source[] {
  const found = new Map<string, Source>()
  let sum = 0
  const skip = (path: string, why: string, named = false): void =>
    void unread.push({ file: relative('', path) || path, why, named })
  const add = (path: string, { follow = false, named = false, isReference = false } = {}): boolean => {
    const whole = readRegular(path, follow)
    if (whole === undefined) {
      const { size, isFile } = statsOf(path, follow)
      if (!isReference && isFile) skip(path, size > maxSize ? 'it is larger than 1 MB' : notReadable, named)
      return false
    }
    const text = whole.startsWith(byteOrderMark) ? whole.slice(1) : whole
    sum += text.length
    found.set(resolve(path), {
      file: relative('', path) || path,
      text,
      ...(named && { named }),
      ...(isReference && { isReference }),
    })
    if (found.size > maxFiles || sum > maxTotal) throw usageError('too many files; name the ones to examine')
    return true
  }
  const code: string[] = []
  /** A link stands for the file: nginx includes `sites-enabled/shop`, a link to `sites-available/shop`. */
  const follow = (path: string, root: string): void => {
    const target = statsOf(path, true)
    if (!target.isFile) return
    if (isWithin(path, root)) {
      found.delete(resolve(root, relative(realpathSync(root), realpathSync(path))))
      add(path, { follow: true })
    } else skip(path, 'it is a link out of the folder')
  }
  const links: (() => void)[] = []
  const visit = (folder: string, depth: number, root = folder): void => {
    if (depth > maxDepth) return
    const entries = entriesOf(folder)
    if (!entries) skip(folder, notReadable, depth === 0)
    for (const entry of entries ?? []) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) {
        if (!skipped.has(entry.name) && !entry.name.startsWith('.')) visit(path, depth + 1, root)
      } else if (entry.isFile() && hasKnownName(path)) add(path)
      else if (entry.isFile() && isCode(path)) code.push(path)
      else if (entry.isSymbolicLink() && hasKnownName(path)) links.push(() => follow(path, root))
    }
  }
  for (const name of names) {
    if (!existsSync(name)) throw usageError(`${name} is neither a file nor a folder`)
    if (statSync(name).isDirectory()) visit(name, 0)
    else {
      if (!add(name, { follow: true, named: true }) && !statSync(name).isFile())
        throw usageError(`${name} is not a regular file; \`-\` reads YAML from stdin`)
    }
  }
  for (const one of links) one()
  // A file may refer to others, which refer to more.
  for (const source of found.values())
    for (const path of referencesOf(source))
      if (!found.has(path) && isWithin(path, dirname(resolve(source.file)))) add(path, { isReference: true })
  const [first] = code
  const more = code.length === 1 ? '' : ` and ${code.length - 1} more`
  if (first) unread.push({ file: `${relative('', first) || first}${more}`, why: codeWhy, named: false })
  return [...found.values()]
}

const notReadable = 'it is not readable'

/** In alphabetical order; `undefined` without the permission. */
function entriesOf(folder: string): Dirent[] | undefined {
  try {
    return readdirSync(folder, { withFileTypes: true }).sort((a, b) => a.name.localeCompare(b.name))
  } catch {
    return undefined
  }
}

function statsOf(path: string, follow: boolean): { readonly size: number; readonly isFile: boolean } {
  try {
    const stats = follow ? statSync(path) : lstatSync(path)
    return { size: stats.size, isFile: stats.isFile() }
  } catch {
    return { size: 0, isFile: false }
  }
}

/** Whether a reader may want a file of this name. */
const hasKnownName = (path: string): boolean =>
  /\.(?:conf|cfg|ya?ml|service|tf|env|template|dockerfile)$/i.test(path) ||
  isPm2(basename(path)) ||
  /^(?:\.env(?:\.\w+)?|(?:Docker|Container)file.*|.*(?:plan|terraform).*\.json)$/.test(basename(path)) ||
  isSite.test(path)

/** Named by a domain, so that `.com` is no extension. */
const isSite = /(?:^|\/)sites-(?:available|enabled)\/[^/]+$/

/** pm2 itself takes a script for a configuration by `.config` in its name. */
const isPm2 = (name: string): boolean =>
  /^ecosystem[\w.-]*\.(?:[cm]?js|json|ya?ml)$|^process(?:es)?\.json$|pm2[\w.-]*\.(?:json|ya?ml)$|pm2[\w.-]*\.config\.[cm]?js$/.test(
    name,
  )

/** Code is not read: only the app knows what it does. */
const isCode = (path: string): boolean => /\.[cm]?[jt]sx?$/.test(path) && !isPm2(basename(path))
const codeWhy = 'code is not read: ask the app with `--app FILE`'

/** Files of variables that nobody deploys. */
const isExample = /\.(?:example|sample|template|dist)\b|^(?:example|sample)\.env$/
const isDevelopment = /^\.env\.(?:dev|development|test|testing|ci|local)(?:\.local)?$|^(?:dev|development|test)\.env$/

/** The kind of a file; `undefined` when no reader wants it. */
export function kindOf({ file, text, kind, named }: Source): Kind | undefined {
  if (kind) return kind
  const name = basename(file)
  if (/^\.env(?:\.\w+)*$|\.env$/.test(name))
    return isExample.test(name) || (isDevelopment.test(name) && !named) ? undefined : 'environment'
  if (/^(?:Docker|Container)file(?!.*\.dockerignore$)|\.dockerfile$/i.test(name)) return 'image'
  if (isPm2(name)) return 'pm2'
  if ((name.endsWith('.json') || file === '-') && isTerraformOutput(text)) return 'terraform'
  if (name.endsWith('.service') || /\.service\.d[/\\][^/\\]+\.conf$/.test(file)) return 'systemd'
  if (/\.(?:cfg|conf)(?:\.template)?$/.test(name) || isSite.test(file)) return frontKind({ file, text })
  if (/\.ya?ml$/.test(name)) return yamlKind({ file, text })
  // Standard input, or a file without an extension, such as sites-available/shop.
  return /\.\w+$/.test(name) ? undefined : (yamlKind({ file, text }) ?? frontKind({ file, text }))
}

const frontKind = (source: Source): Kind | undefined =>
  isHaproxy(source) ? 'haproxy' : isNginx(source) ? 'nginx' : undefined

/** Why {@link kindOf} knows no kind of a file. */
export function whyUnread({ file, text }: Source): string {
  if (file.endsWith('.tf')) return 'only Terraform can evaluate it: pass the output of `terraform show -json`'
  if (isCode(file)) return codeWhy
  if (isChartTemplate({ file, text })) return 'it is a template of Helm: pass the output of `helm template`'
  if (/\.ya?ml$/.test(file) && text.length > maxYaml) return `it is longer than ${maxYaml / 1024} KB`
  if (isExample.test(basename(file))) return 'it is an example'
  if (isDevelopment.test(basename(file))) return 'it is for development: name it to check it'
  return 'its kind is not known'
}

/** Whether `terraform show -json` printed it. */
const isTerraformOutput = (text: string): boolean =>
  /^\s*\{/.test(text) && /"format_version"\s*:/.test(text) && /"(?:planned_)?values"\s*:/.test(text)

/** A line that begins with an action is no YAML; other templates may be, and mean something else. */
const isChartTemplate = ({ file, text }: Source): boolean =>
  /\.(?:ya?ml|tpl)$/.test(file) &&
  (/^\s*\{\{/m.test(text) || (/(?:^|[/\\])templates[/\\]/.test(file) && text.includes('{{')))

function yamlKind({ file, text }: Source): Kind | undefined {
  if (text.length > maxYaml || isChartTemplate({ file, text })) return undefined
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
