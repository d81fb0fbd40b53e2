import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readRegular } from '../../base/regular-file.ts'
import { usageError } from '../args.ts'
import type { Kit } from './kits.ts'
import type { Project } from './project.ts'
import { replaceScalars } from './yaml.ts'

/** The folder of this package, three above in both the source and the build. */
const shippedAt: string = fileURLToPath(new URL('../../../', import.meta.url))

export interface Asset {
  /** Path in the project. */
  readonly file: string
  readonly text: string
  readonly executable: boolean
}

/** The files of a kit with the values of the project. */
export function assets(kit: Kit, project: Project): Asset[] {
  const named = [...kit.paths, ...(project.migrates ? (kit.withDatabase ?? []) : [])]
  return named.flatMap((entry) => {
    const [from, to] = typeof entry === 'string' ? [entry, undefined] : [entry[0], entry[1](project)]
    return below(from).map((path) => {
      const file = to ?? path
      const text = readFileSync(join(shippedAt, path), 'utf8')
      return {
        file,
        text: fill(kit, file, text, project),
        executable: (statSync(join(shippedAt, path)).mode & 0o111) !== 0,
      }
    })
  })
}

/** The file, or all files of the folder except hidden ones, which are generated. */
function below(path: string): string[] {
  if (statSync(join(shippedAt, path)).isFile()) return [path]
  return readdirSync(join(shippedAt, path), { withFileTypes: true })
    .sort((a, b) => a.name.localeCompare(b.name))
    .filter(({ name }) => name === '.gitignore' || !name.startsWith('.'))
    .flatMap(({ name }) => below(`${path}/${name}`))
}

function fill(kit: Kit, file: string, text: string, project: Project): string {
  const { adapt, adaptYaml } = kit
  const structured = adapt?.[file]?.(text, project) ?? text
  const adapted =
    adaptYaml && file.endsWith('.yml')
      ? replaceScalars(structured, (key, value) => adaptYaml(key, value, project))
      : structured
  return kit.fills
    .filter(([pattern]) => pattern.test(file))
    .reduce((filled, [, from, to]) => filled.replace(from, to(project)), adapted)
}

export interface CopyPlan {
  readonly write: readonly Asset[]
  /** Existing files with the same content. */
  readonly same: readonly string[]
  /** Existing files that differ. */
  readonly conflicts: readonly string[]
}

export function plan(wanted: readonly Asset[], { folder }: Project): CopyPlan {
  const there = (file: string): string | undefined => {
    const path = join(folder, file)
    return lstatSync(path, { throwIfNoEntry: false }) ? (readRegular(path, false) ?? 'not a regular file') : undefined
  }
  const same = wanted.filter(({ file, text }) => there(file) === text).map(({ file }) => file)
  const conflicts = wanted.filter(({ file, text }) => ![undefined, text].includes(there(file))).map(({ file }) => file)
  return { write: wanted.filter(({ file }) => !same.includes(file)), same, conflicts }
}

/** Does not write through links, which could lead out of the folder. @throws FLEET_ERR_USAGE */
export function write(wanted: readonly Asset[], { folder }: Project): void {
  for (const { file } of wanted) assertInside(folder, dirname(file))
  for (const { file, text, executable } of wanted) {
    const path = join(folder, file)
    mkdirSync(dirname(path), { recursive: true })
    rmSync(path, { force: true })
    writeFileSync(path, text, { flag: 'wx' })
    if (executable) chmodSync(path, 0o755)
  }
}

function assertInside(folder: string, below: string): void {
  if (below === '.') return
  assertInside(folder, dirname(below))
  if (lstatSync(join(folder, below), { throwIfNoEntry: false })?.isSymbolicLink())
    throw usageError(`${join(folder, below)} is a link; nothing is written through it`)
}
