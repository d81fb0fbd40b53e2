import { readdirSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import type { Source } from '../facts.ts'
import { asMap, asText, parseYaml, type YamlDocument } from '../yaml-file.ts'
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

function ofCompose(source: Source): string[] {
  const beside = ['.env']
  const [, name, extension] = /^(.*compose)(\.ya?ml)$/.exec(basename(source.file)) ?? []
  if (name) beside.push(`${name}.override${extension}`)
  try {
    return [...beside, ...parseYaml(source).flatMap(namedBy)]
  } catch {
    return beside
  }
}

const namedBy = (document: YamlDocument): string[] =>
  Object.values(asMap(document.get(['services']))).flatMap((service) => {
    const { env_file, extends: base } = asMap(service) as { env_file?: unknown; extends?: unknown }
    const files = [env_file].flat().map((entry) => (asMap(entry) as { path?: unknown }).path ?? entry)
    return [...files, (asMap(base) as { file?: unknown }).file].flatMap((path) => asText(path) ?? [])
  })
