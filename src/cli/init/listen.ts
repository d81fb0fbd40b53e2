import type { AnyNode, CallExpression, ObjectExpression } from 'acorn'
import type { Edit } from './change.ts'
import type { Instance } from './instance.ts'
import { property } from './register.ts'
import { lineOf, methodOf, requiredBy, resolveImport, type Source, walk } from './source.ts'

/** The call of `listen`, and what is missing for `PORT` and `HOST` of the environment. */
export interface Listening {
  readonly source: Source
  /** `undefined`: its port is unknown. */
  readonly edits: readonly Edit[] | undefined
  /** What the app has to do itself without them. */
  readonly note: string
}

const local: ReadonlySet<unknown> = new Set(['localhost', '127.0.0.1', '::1'])

/** Finds the call on the instance, or on what a function of the instance's file returns. */
export function listeningOf(folder: string, sources: readonly Source[], instance: Instance): Listening | undefined {
  for (const source of sources) {
    const names = serversIn(folder, source, instance)
    let call: CallExpression | undefined
    walk(source.program, (node) => {
      if (node.type !== 'CallExpression') return
      const [object = '', method] = methodOf(node) ?? []
      if (method === 'listen' && names.has(object)) call ??= node
    })
    if (call) return editsOf(source, call)
  }
  return undefined
}

/** Variables that hold the server. */
function serversIn(folder: string, source: Source, instance: Instance): ReadonlySet<string> {
  const own = source.file === instance.source.file
  const made = new Set<string>()
  const servers = new Set<string>(own ? [instance.name] : [])
  const isOwnFile = (name: unknown): boolean =>
    typeof name === 'string' && resolveImport(folder, source.file, name) === instance.source.file
  walk(source.program, (node) => {
    if (node.type === 'ImportDeclaration' && isOwnFile(node.source.value))
      for (const { local } of node.specifiers) made.add(local.name)
    if (own && node.type === 'FunctionDeclaration' && node.id) made.add(node.id.name)
    if (node.type !== 'VariableDeclarator') return
    const { id, init } = node
    if (own && id.type === 'Identifier' && init?.type.includes('Function')) made.add(id.name)
    if (isOwnFile(requiredBy(init))) for (const name of namesOf(id)) made.add(name)
  })
  walk(source.program, (node) => {
    if (node.type !== 'VariableDeclarator' || node.id.type !== 'Identifier') return
    const init = node.init?.type === 'AwaitExpression' ? node.init.argument : node.init
    if (init?.type !== 'CallExpression') return
    const { callee } = init
    const isMade = callee.type === 'Identifier' ? made.has(callee.name) : isOwnFile(requiredBy(callee))
    if (isMade) servers.add(node.id.name)
  })
  // What is imported may be the instance itself.
  for (const name of made) servers.add(name)
  return servers
}

function namesOf(pattern: AnyNode): string[] {
  if (pattern.type === 'Identifier') return [pattern.name]
  if (pattern.type !== 'ObjectPattern') return []
  return pattern.properties.flatMap((one) => (one.type === 'Property' ? namesOf(one.value) : []))
}

function editsOf(source: Source, call: CallExpression): Listening {
  const [options] = call.arguments
  const place = `${source.file}:${lineOf(source.text, call.start)}`
  const note = `${place}: let it listen on port Number(process.env.PORT ?? 3000) and host process.env.HOST ?? 'localhost'`
  const unknown = { source, edits: undefined, note }
  if (options?.type !== 'ObjectExpression') return unknown
  const port = property(options, 'port')
  if (!port) return unknown
  const literal = literalOf(source, port)
  if (!literal && !readsPort(source, port)) return unknown
  const edits: Edit[] = []
  if (literal)
    edits.push({
      start: literal.start,
      end: literal.end,
      text: `Number(process.env.PORT ?? ${source.text.slice(literal.start, literal.end)})`,
    })
  edits.push(...hostEdits(source, options, port))
  return { source, edits, note }
}

function hostEdits({ text, code }: Source, options: ObjectExpression, port: AnyNode): Edit[] {
  const host = property(options, 'host')
  const others = options.properties.some(({ type }) => type === 'SpreadElement')
  // `3000 as number` ends with a type.
  const isTyped = text.slice(port.end).trimStart()[0] !== code.slice(port.end).trimStart()[0]
  if (!host)
    return others || isTyped
      ? []
      : [
          {
            start: port.end,
            end: port.end,
            text: `, host: process.env.HOST ?? ${quoteOf(text)}localhost${quoteOf(text)}`,
          },
        ]
  if (host.type !== 'Literal' || !local.has(host.value)) return []
  return [{ start: host.start, end: host.end, text: `process.env.HOST ?? ${text.slice(host.start, host.end)}` }]
}

const quoteOf = (text: string): string => (text.includes('"fastify"') ? '"' : "'")

/** A number in the call, or the constant of the file that it names. */
function literalOf(source: Source, node: AnyNode): AnyNode | undefined {
  const value = initialValue(source, node)
  return value?.type === 'Literal' && typeof value.value === 'number' ? value : undefined
}

function initialValue({ program }: Source, node: AnyNode): AnyNode | undefined {
  if (node.type !== 'Identifier') return node
  const values: (AnyNode | null | undefined)[] = []
  walk(program, (other) => {
    if (other.type === 'VariableDeclarator' && other.id.type === 'Identifier' && other.id.name === node.name)
      values.push(other.init)
  })
  return values.length === 1 ? (values[0] ?? undefined) : undefined
}

function readsPort(source: Source, node: AnyNode): boolean {
  let found = false
  walk(initialValue(source, node) ?? node, (inner) => {
    if (inner.type === 'MemberExpression') found ||= nameOf(inner.property) === 'PORT' && nameOf(inner.object) === 'env'
  })
  return found
}

/** The last name of `a.b.c`. */
function nameOf(node: AnyNode): string | undefined {
  if (node.type === 'MemberExpression') return nameOf(node.property)
  return node.type === 'Identifier' ? node.name : undefined
}
