import type { AnyNode, CallExpression } from 'acorn'
import { lineOf, requiredBy, type Source, walk } from './source.ts'

/** Where an app creates its Fastify instance. */
export interface Instance {
  readonly source: Source
  readonly call: CallExpression
  /** The variable. */
  readonly name: string
  /** The declaration, with `export`. */
  readonly statement: AnyNode
  /** Whether a statement after it may `await`. */
  readonly mayAwait: boolean
}

/** A call of Fastify whose result is in no variable that fleet could be registered with. */
export interface Unclear {
  readonly file: string
  readonly line: number
  readonly reason: string
}

/** Names of Fastify's factory in a file, and of objects that have it as a member. */
interface Names {
  readonly factories: Set<string>
  readonly namespaces: Set<string>
}

const members: ReadonlySet<string> = new Set(['fastify', 'default'])

/** The instance that a file creates; `undefined` if it calls Fastify nowhere. */
export function instanceIn(source: Source): Instance | Unclear | undefined {
  const names = namesIn(source)
  const found: (Instance | Unclear)[] = []
  walk(source.program, (node, parents) => {
    if (node.type === 'CallExpression' && isFactory(node.callee, names)) found.push(instanceOf(source, node, parents))
  })
  const [first, second] = found
  if (!first || !second) return first
  const line = lineOf(source.text, source.program.start)
  return { file: source.file, line, reason: `it creates ${found.length} Fastify instances` }
}

export const isUnclear = (found: Instance | Unclear): found is Unclear => 'reason' in found

function namesIn({ program }: Source): Names {
  const names: Names = { factories: new Set(), namespaces: new Set() }
  walk(program, (node) => {
    if (node.type === 'ImportDeclaration' && node.source.value === 'fastify') {
      for (const { type, local, ...rest } of node.specifiers) {
        const imported = 'imported' in rest && rest.imported.type === 'Identifier' ? rest.imported.name : 'default'
        if (type === 'ImportNamespaceSpecifier') names.namespaces.add(local.name)
        else if (members.has(imported)) names.factories.add(local.name)
      }
    }
    if (node.type !== 'VariableDeclarator' || !isFastifyModule(node.init)) return
    if (node.id.type === 'Identifier') {
      names.factories.add(node.id.name)
      names.namespaces.add(node.id.name)
    }
    if (node.id.type !== 'ObjectPattern') return
    for (const property of node.id.properties) {
      if (property.type !== 'Property' || property.value.type !== 'Identifier') continue
      if (property.key.type === 'Identifier' && members.has(property.key.name)) names.factories.add(property.value.name)
    }
  })
  return names
}

/** `require('fastify')`, also with `.fastify` or `.default`. */
function isFastifyModule(node: AnyNode | null | undefined): boolean {
  if (node?.type === 'MemberExpression' && node.property.type === 'Identifier' && members.has(node.property.name))
    return isFastifyModule(node.object)
  return requiredBy(node) === 'fastify'
}

function isFactory(node: AnyNode, { factories, namespaces }: Names): boolean {
  if (node.type === 'Identifier') return factories.has(node.name)
  if (isFastifyModule(node)) return true
  if (node.type !== 'MemberExpression' || node.object.type !== 'Identifier' || !namespaces.has(node.object.name))
    return false
  return node.property.type === 'Identifier' && members.has(node.property.name)
}

function instanceOf(source: Source, call: CallExpression, parents: readonly AnyNode[]): Instance | Unclear {
  const line = lineOf(source.text, call.start)
  const unclear = (reason: string): Unclear => ({ file: source.file, line, reason })
  // `Fastify().withTypeProvider()` is the same instance.
  let depth = parents.length - 1
  while (isTypeProvider(parents[depth], parents[depth - 1])) depth -= 2
  const [declarator, declaration, outer] = [parents[depth], parents[depth - 1], parents[depth - 2]]
  if (declarator?.type !== 'VariableDeclarator' || declaration?.type !== 'VariableDeclaration')
    return unclear('the Fastify instance is not declared as a variable')
  if (declarator.id.type !== 'Identifier') return unclear('the Fastify instance is taken apart')
  const isExported = outer?.type === 'ExportNamedDeclaration'
  const statement = isExported ? outer : declaration
  const block = isExported ? parents[depth - 3] : outer
  if (block?.type !== 'Program' && block?.type !== 'BlockStatement')
    return unclear('the Fastify instance is not declared in a plain block')
  const around = parents.slice(0, depth).findLast(({ type }) => type.includes('Function'))
  const mayAwait = around && 'async' in around ? around.async === true : source.topLevelAwait
  return { source, call, name: declarator.id.name, statement, mayAwait }
}

const isTypeProvider = (member: AnyNode | undefined, call: AnyNode | undefined): boolean =>
  member?.type === 'MemberExpression' &&
  member.property.type === 'Identifier' &&
  member.property.name === 'withTypeProvider' &&
  call?.type === 'CallExpression'
