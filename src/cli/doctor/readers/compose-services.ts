import { dirname, join, resolve } from 'node:path'
import { type Fact, type FileAt, isForDevelopment, type Place, type Source, type Variable } from '../facts.ts'
import type { ComposeConfig } from '../programs/compose.ts'
import { asList, asMap, asText, type Path, parseYaml, type YamlDocument } from '../yaml-file.ts'
import { variablesOf } from './environment.ts'
import { interpolate, type Lookup } from './interpolate.ts'

/** A part of a service: its own file, a file merged into it, or a service that it extends. Later layers have priority. */
interface Layer {
  readonly document: YamlDocument
  readonly path: Path
  readonly lookup: Lookup
}

/** `extends` may refer to a service that extends another. */
const maxLayers = 16

/** A set key whose value is not in the files. */
export const unknown: unique symbol = Symbol('unknown')

export class Service {
  readonly name: string
  /** Files that it refers to and that were not read. */
  readonly missing: readonly string[]
  readonly #layers: readonly Layer[]
  readonly #fileAt: FileAt
  readonly #config: unknown

  /** @param config what Docker makes of the service: its values are used, with the places of the files */
  constructor(name: string, layers: readonly Layer[], missing: readonly string[], fileAt: FileAt, config?: unknown) {
    this.name = name
    this.#layers = layers
    this.#fileAt = fileAt
    this.#config = config
    if (config !== undefined) {
      this.missing = []
      return
    }
    const files = this.#envFiles().flatMap(({ path, isRequired }) => (isRequired && !fileAt(path) ? [path] : []))
    this.missing = [...missing, ...files]
  }

  /** Where the service itself is defined, in the last file that has it. */
  get place(): Place {
    const { document, path } = this.#layers.at(-1) as Layer
    return { file: document.file, line: document.line(path) }
  }

  /** The value at a path with its place, interpolated. Its parts are merged as the specification says for maps. */
  get(path: Path): Fact<unknown> | undefined {
    const own = this.#written(path)
    // Docker takes a variable that is not set here for an empty one.
    if (this.#config === undefined || own?.value === unknown) return own
    const value = path.reduce<unknown>((at, key) => (asMap(at) as Record<string, unknown>)[key], this.#config)
    return value === undefined || value === null ? undefined : { ...(own ?? this.place), value }
  }

  #written(path: Path): Fact<unknown> | undefined {
    for (const { document, path: base, lookup } of this.#layers.toReversed()) {
      const whole = [...base, ...path]
      if (document.tag(whole) === '!reset') return undefined
      const value = document.get(whole)
      if (value !== undefined)
        return { value: interpolated(value, lookup), file: document.file, line: document.line(whole) }
    }
    return undefined
  }

  /** The text of a line of one of its files. */
  text({ file, line }: Place): string {
    return this.#layers.find(({ document }) => document.file === file)?.document.text(line) ?? ''
  }

  /** Entries of a list in all layers: ports are added up. */
  all(path: Path): readonly Fact<unknown>[] {
    const found: Fact<unknown>[] = []
    for (const { document, path: base, lookup } of this.#layers) {
      const whole = [...base, ...path]
      if (/^!(?:reset|override)$/.test(document.tag(whole) ?? '')) found.length = 0
      for (const [index, value] of asList(document.get(whole)).entries())
        found.push({
          value: interpolated(value, lookup),
          file: document.file,
          line: document.line([...whole, index]),
        })
    }
    return found
  }

  /** `env_file`, then `environment`, of all layers. */
  environment(): Map<string, Variable> {
    const env = this.#writtenEnvironment()
    if (this.#config === undefined) return env
    const { environment } = this.#config as { environment?: unknown }
    const known = Object.entries(asMap(environment)).map(([name, value]): [string, Variable] => {
      const own = env.get(name)
      return [name, own && own.value === undefined ? own : { ...(own ?? this.place), value: asText(value) }]
    })
    return new Map(known)
  }

  #writtenEnvironment(): Map<string, Variable> {
    const env = new Map<string, Variable>()
    for (const { path } of this.#envFiles()) {
      const source = this.#fileAt(path)
      if (source) for (const [name, variable] of variablesOf(source)) env.set(name, variable)
    }
    for (const { document, path: base, lookup } of this.#layers) {
      const path = [...base, 'environment']
      if (/^!(?:reset|override)$/.test(document.tag(path) ?? '')) env.clear()
      for (const [name, value, key] of entriesOf(document.get(path))) {
        const text = asText(value)
        env.set(name, {
          // Without a value it is that of the shell.
          value: text === undefined ? lookup(name) : interpolate(text, lookup),
          file: document.file,
          line: document.line([...path, key]),
        })
      }
    }
    return env
  }

  #envFiles(): { path: string; isRequired: boolean }[] {
    return this.#layers.flatMap(({ document, path, lookup }) => {
      const given = document.get([...path, 'env_file'])
      return (Array.isArray(given) ? given : [given]).flatMap((entry) => {
        const { path: named = entry, required = true } = asMap(entry) as { path?: unknown; required?: unknown }
        const text = asText(named)
        const file = text === undefined ? undefined : interpolate(text, lookup)
        return file === undefined
          ? []
          : [{ path: resolve(dirname(document.file), file), isRequired: required !== false }]
      })
    })
  }
}

/** `[name, value, key]` of a map, or of a list of `name=value`. */
function entriesOf(given: unknown): [name: string, value: unknown, key: string | number][] {
  if (!Array.isArray(given)) return Object.entries(asMap(given)).map(([name, value]) => [name, value, name])
  return given.map((entry, index) => {
    const [name = '', ...rest] = String(entry).split('=')
    return [name, rest.length > 0 ? rest.join('=') : undefined, index]
  })
}

const interpolated = (value: unknown, lookup: Lookup): unknown => {
  if (typeof value === 'string') return interpolate(value, lookup) ?? unknown
  return Array.isArray(value) ? value.map((one) => interpolated(one, lookup)) : value
}

/** Files that Compose merges into another one of the same folder without being told. */
const isOverride = (file: string): boolean => /compose\.override\.ya?ml$/.test(file)
export interface Project {
  readonly services: readonly Service[]
  /** Files that are not judged, and why. */
  readonly skipped: readonly { readonly file: string; readonly why: string }[]
}

/**
 * The services of compose files. Named files of one folder are merged in their order, as by `docker compose -f A -f B`. In a folder a
 * file is merged with its override; a partial one, such as `compose.prod.yml`, is merged into the main file of its folder.
 */
export function servicesOf(sources: readonly Source[], fileAt: FileAt): Project {
  const documents = new Map<string, YamlDocument>()
  for (const source of sources) {
    const [document] = parseYaml(source)
    if (document) documents.set(resolve(source.file), document)
  }
  const model = new Model(documents, fileAt)
  const skipped: { file: string; why: string }[] = []
  const services: Service[] = []
  const configs = new Map(sources.map(({ file, evaluated }) => [resolve(file), evaluated as ComposeConfig | undefined]))
  const isNamed = new Set(sources.filter(({ named }) => named).map(({ file }) => resolve(file)))
  for (const group of Map.groupBy(documents.values(), ({ file }) => dirname(resolve(file))).values()) {
    const named = group.filter(({ file }) => isNamed.has(resolve(file)))
    const config = named[0] && configs.get(resolve(named[0].file))
    if (config?.error !== undefined && named[0])
      skipped.push({ file: named[0].file, why: `Docker rejects it: ${config.error}` })
    if (config?.services) {
      const override = group.find(({ file }) => isOverrideOf(file, named[0]?.file ?? ''))
      services.push(...model.merged(named.length === 1 && override ? [...named, override] : named, config.services))
      continue
    }
    if (named.length > 1) services.push(...model.merged(named))
    const rest = named.length > 1 ? group.filter((one) => !named.includes(one)) : group
    const whole = rest.filter((document) => !isPartial(document) && !isOverride(document.file))
    const parts = rest.filter((document) => !whole.includes(document) && !isOverride(document.file))
    for (const document of whole) {
      const override = rest.find((one) => isOverrideOf(one.file, document.file))
      const variants = parts.filter((part) => !isForDevelopment(part.file) && shares(part, document))
      if (isForDevelopment(document.file) && !isNamed.has(resolve(document.file)) && whole.length > 1)
        skipped.push({ file: document.file, why: 'it is for development: name it to check it' })
      else if (variants.length === 0) services.push(...model.merged(override ? [document, override] : [document]))
      for (const part of variants) services.push(...model.merged([document, part]))
    }
    for (const part of parts) {
      const main = whole.some((document) => shares(part, document))
      if (isForDevelopment(part.file)) skipped.push({ file: part.file, why: 'it changes another file for development' })
      else if (!main) services.push(...model.merged([part]))
    }
    for (const part of rest.filter(({ file }) => isOverride(file)))
      if (!whole.some(({ file }) => isOverrideOf(part.file, file))) services.push(...model.merged([part]))
  }
  return { services, skipped }
}

const isOverrideOf = (override: string, main: string): boolean =>
  isOverride(override) &&
  override.replace(/\.override(?=\.ya?ml$)/, '').replace(/\.ya?ml$/, '') === main.replace(/\.ya?ml$/, '')

const namesOf = (document: YamlDocument): string[] => Object.keys(asMap(document.get(['services'])))
const shares = (part: YamlDocument, main: YamlDocument): boolean => {
  const names = new Set(namesOf(main))
  return namesOf(part).some((name) => names.has(name))
}

/** Whether a service has neither an image nor a build: it changes that of another file. */
const isPartial = (document: YamlDocument): boolean =>
  namesOf(document).some((name) =>
    ['image', 'build', 'extends'].every((key) => document.get(['services', name, key]) === undefined),
  )

class Model {
  readonly #documents: ReadonlyMap<string, YamlDocument>
  readonly #fileAt: FileAt

  constructor(documents: ReadonlyMap<string, YamlDocument>, fileAt: FileAt) {
    this.#documents = documents
    this.#fileAt = fileAt
  }

  /** The services of files that are merged in this order. */
  merged(documents: readonly YamlDocument[], config?: Readonly<Record<string, unknown>>): Service[] {
    return [...new Set(documents.flatMap(namesOf))].flatMap((name) => {
      const missing: string[] = []
      const layers = documents.flatMap((document) => this.#layersOf(document, name, missing))
      // A name that is no scalar has none.
      return layers.length === 0 ? [] : [new Service(name, layers, missing, this.#fileAt, config?.[name])]
    })
  }

  #layersOf(document: YamlDocument, name: string, missing: string[], depth = 0): Layer[] {
    const path = ['services', name]
    const own = document.get(path)
    if (own === undefined || depth > maxLayers) return []
    const lookup = this.#lookup(document.file)
    const given = document.get([...path, 'extends'])
    const { service = given, file } = asMap(given) as { service?: unknown; file?: unknown }
    const base = asText(service)
    const layers: Layer[] = []
    if (base !== undefined) {
      const other = asText(file)
      const where = other === undefined ? document : this.#documents.get(resolve(dirname(document.file), other))
      const found = where && this.#layersOf(where, base, missing, depth + 1)
      if (found && found.length > 0) layers.push(...found)
      else missing.push(join(dirname(document.file), other ?? ''))
    }
    return [...layers, { document, path, lookup }]
  }

  /** Compose takes values from the `.env` in the folder of the file. */
  #lookup(file: string): Lookup {
    const source = this.#fileAt(resolve(dirname(file), '.env'))
    const variables = source ? variablesOf(source) : new Map<string, Variable>()
    return (name) => variables.get(name)?.value
  }
}
