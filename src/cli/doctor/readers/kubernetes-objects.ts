import type { Fact, Variable } from '../facts.ts'
import { asList, asMap, asText, type Path, type YamlDocument } from '../yaml-file.ts'

/** An object of a document, which may be a list of them. */
export class KubernetesObject {
  readonly file: string
  readonly kind: string
  readonly #document: YamlDocument
  readonly #base: Path

  constructor(document: YamlDocument, base: Path) {
    this.file = document.file
    this.#document = document
    this.#base = base
    this.kind = asText(this.get(['kind'])) ?? ''
  }

  get name(): string {
    return asText(this.get(['metadata', 'name'])) ?? ''
  }

  /** `Deployment/shop` */
  get title(): string {
    return `${this.kind}/${this.name}`
  }

  get(path: Path): unknown {
    return this.#document.get([...this.#base, ...path])
  }

  line(path: Path): number {
    return this.#document.line([...this.#base, ...path])
  }

  /** The text of a line. */
  text(line: number): string {
    return this.#document.text(line)
  }

  fact<T>(path: Path, parse: (value: unknown) => T | undefined): Fact<T> | undefined {
    return this.#document.fact([...this.#base, ...path], parse)
  }
}

/** The objects of all documents, also those within a `List`. */
export const objectsOf = (documents: readonly YamlDocument[]): KubernetesObject[] =>
  documents.flatMap((document) => within(document, []))

function within(document: YamlDocument, base: Path): KubernetesObject[] {
  const kind = asText(document.get([...base, 'kind'])) ?? ''
  const items = document.get([...base, 'items'])
  if (!/List$/.test(kind) || !Array.isArray(items) || base.length > 8) return [new KubernetesObject(document, base)]
  return items.flatMap((_, index) => within(document, [...base, 'items', index]))
}

/** Variables of ConfigMaps and Secrets by kind and name. */
export type Named = ReadonlyMap<string, ReadonlyMap<string, Variable>>

/** Also those that a kustomization generates from literals. */
export function namedVariables(objects: readonly KubernetesObject[]): Named {
  const found = new Map<string, Map<string, Variable>>()
  for (const object of objects) {
    if (object.kind === 'ConfigMap' || object.kind === 'Secret') found.set(object.title, dataOf(object))
    if (object.kind !== 'Kustomization') continue
    for (const kind of ['ConfigMap', 'Secret'] as const)
      for (const [name, variables] of generatedBy(object, kind)) found.set(`${kind}/${name}`, variables)
  }
  return found
}

function dataOf(object: KubernetesObject): Map<string, Variable> {
  const found = new Map<string, Variable>()
  for (const section of ['data', 'stringData'])
    for (const [name, value] of Object.entries(asMap(object.get([section])))) {
      const isEncoded = object.kind === 'Secret' && section === 'data'
      const text = isEncoded ? Buffer.from(String(value), 'base64').toString() : String(value ?? '')
      found.set(name, { value: text, file: object.file, line: object.line([section, name]) })
    }
  return found
}

function generatedBy(object: KubernetesObject, kind: 'ConfigMap' | 'Secret'): [string, Map<string, Variable>][] {
  const path = [kind === 'ConfigMap' ? 'configMapGenerator' : 'secretGenerator']
  return asList(object.get(path)).flatMap((entry, index): [string, Map<string, Variable>][] => {
    const { name, literals, envs, files } = asMap(entry) as Record<string, unknown>
    // What is in other files is not known.
    if (asText(name) === undefined || envs !== undefined || files !== undefined) return []
    const variables = asList(literals).map((literal, i): [string, Variable] => {
      const [variable = '', ...value] = String(literal).split('=')
      const line = object.line([...path, index, 'literals', i])
      return [variable, { value: value.join('=').replace(/^(["'])(.*)\1$/, '$2'), file: object.file, line }]
    })
    return [[asText(name) as string, new Map(variables)]]
  })
}
