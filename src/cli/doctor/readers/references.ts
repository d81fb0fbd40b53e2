import { readdirSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import type { Source } from '../facts.ts'
import { unitWords } from './systemd-unit.ts'

/** A file may not name more of them. */
const maxReferences = 256

/**
 * Paths of the files that a file needs to be understood: of a compose file the `.env` and the override beside it, its `env_file`s and
 * the files that it extends; of a unit its drop-ins and `EnvironmentFile`s. Whether they exist is not known.
 */
export function referencesOf(source: Source): readonly string[] {
  const { file } = source
  const folder = dirname(resolve(file))
  const named = /compose[^/]*\.ya?ml$/.test(file) ? ofCompose(source) : file.endsWith('.service') ? ofUnit(source) : []
  return named.slice(0, maxReferences).map((path) => resolve(folder, path))
}

function ofUnit({ file, text }: Source): string[] {
  const files = [...text.matchAll(/^[ \t]*EnvironmentFile[ \t]*=[ \t]*-?(.*)$/gm)].flatMap(([, value = '']) =>
    unitWords(value),
  )
  return [...files, ...dropInsOf(file)]
}

function dropInsOf(file: string): string[] {
  const folder = `${file}.d`
  try {
    const names = readdirSync(folder).filter((name) => name.endsWith('.conf'))
    return names.map((name) => join(basename(folder), name))
  } catch {
    return []
  }
}

/** Without parsing YAML, which takes long for hostile files. A path too many does no harm. */
function ofCompose({ file, text }: Source): string[] {
  const beside = ['.env']
  const [, name, extension] = /^(.*compose)(\.ya?ml)$/.exec(basename(file)) ?? []
  if (name) beside.push(`${name}.override${extension}`)
  const words = [...text.matchAll(envFile)].flatMap(([, inline = '', list = '']) =>
    `${inline} ${list}`.split(separators),
  )
  const members = [...text.matchAll(member)].flatMap(([, key, path = '']) =>
    key === 'path' || /\.ya?ml$/.test(path) ? [path] : [],
  )
  return [...beside, ...new Set([...words, ...members])].filter((path) => path !== '' && path !== '-')
}

const envFile = /\benv_file[ \t]*:[ \t]*(\[[^\]]{0,2048}\]|[^\n[]{0,256})((?:\n[ \t]{0,64}-[ \t][^\n]{0,256}){0,64})/g
const separators = /[\s,[\]{}"']+/
/** `extends: { file }` and `env_file: [{ path }]`. */
const member = /\b(file|path)[ \t]*:[ \t]*["']?([^\s,"'}\]]{1,256})/g
