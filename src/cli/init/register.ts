import type { AnyNode, Literal, ObjectExpression } from 'acorn'
import type { Edit } from './change.ts'
import type { Instance } from './instance.ts'
import { isTypeScript, requiredBy, type Source, walk } from './source.ts'

/** How a file writes code. */
interface Style {
  readonly newline: string
  readonly quote: string
  readonly semicolon: string
}

/** The lines that make an instance one of a fleet, and the names under which they use fleet. */
export interface Lines {
  /** Without a semicolon. */
  readonly load: string
  readonly register: string
  readonly serverOptions: string
}

/** @param withServerOptions whether they are loaded */
export function linesFor(
  source: Source,
  name: string,
  options: string,
  mayAwait: boolean,
  style: Style = plain,
  withServerOptions = true,
): Lines {
  const used = new Set<string>()
  walk(source.program, (node) => {
    if (node.type === 'Identifier') used.add(node.name)
  })
  const [plugin, server] = [used.has('fleet') ? 'fastifyFleet' : 'fleet', 'serverOptions']
  const from = `${style.quote}fastify-fleet${style.quote}`
  const asServer = used.has(server) ? 'fleetServerOptions' : server
  const bind = (by: string): string =>
    [
      ['fleet', plugin],
      [server, asServer],
    ]
      .slice(0, withServerOptions ? 2 : 1)
      .map(([name, local]) => (name === local ? name : `${name}${by}${local}`))
      .join(', ')
  return {
    load: source.isModule ? `import { ${bind(' as ')} } from ${from}` : `const { ${bind(': ')} } = require(${from})`,
    register: `${mayAwait ? 'await ' : ''}${name}.register(${plugin}, ${options})${style.semicolon}`,
    serverOptions: `${asServer}()`,
  }
}

const plain: Style = { newline: '\n', quote: "'", semicolon: '' }

/**
 * The edits that register fleet, each line in the style of the file.
 *
 * @param hasLoggerInstance whether the app has a logger of its own
 */
export function registerEdits(
  instance: Instance,
  optionsIn: (quote: string) => string,
  hasLoggerInstance: boolean,
): Edit[] {
  const { source, statement, name, mayAwait } = instance
  const style = styleOf(source, statement)
  const options = optionsIn(style.quote)
  const takes = takesServerOptions(instance)
  const lines = linesFor(source, name, options, mayAwait, style, takes)
  return [
    loadEdit(instance, lines.load, style),
    ...(takes ? serverOptionsEdits(instance, lines.serverOptions, style, hasLoggerInstance) : []),
    after(source, statement.end, lines.register, indentAt(source.text, statement.start), style),
  ]
}

function styleOf({ text, program }: Source, statement: AnyNode): Style {
  let quote = "'"
  walk(program, (node) => {
    if (node.type === 'Literal' && node.value === 'fastify' && node.raw) quote = node.raw[0] ?? quote
  })
  const newline = text.includes('\r\n') ? '\r\n' : '\n'
  return { newline, quote: quote === '`' ? "'" : quote, semicolon: semicolonOf(text, statement) }
}

/** A statement without one can be followed by another without one. */
const semicolonOf = (text: string, { end }: AnyNode): string => (text[end - 1] === ';' ? ';' : '')

/** Behind the statement that loads Fastify, or at the top if that is not a statement of its own. */
function loadEdit({ source, statement }: Instance, line: string, style: Style): Edit {
  const { body } = source.program
  const loads = body.find((top) => {
    let found = top.type === 'ImportDeclaration' && top.source.value === 'fastify'
    walk(top, (node) => {
      found ||= requiredBy(node) === 'fastify'
    })
    return found
  })
  const holds = (top: AnyNode): boolean => top.start <= statement.start && statement.end <= top.end
  if (loads && !holds(loads)) return after(source, loads.end, line + semicolonOf(source.text, loads), '', style)
  const { start } = loads ?? body.find((top) => !('directive' in top)) ?? statement
  // Without a semicolon, these would continue the line.
  const semicolon = /[([`+\-/]/.test(source.text[start] ?? '') ? ';' : style.semicolon
  return { start, end: start, text: line + semicolon + style.newline }
}

/** A line of its own below the one on which a statement ends; behind a comment there. */
function after({ text, code, comments }: Source, end: number, line: string, indent: string, { newline }: Style): Edit {
  let stop = end
  for (const comment of comments) {
    if (comment.start < stop || /\S|\n/.test(code.slice(stop, comment.start))) continue
    if (text.slice(comment.start, comment.end).includes('\n')) break
    stop = comment.end
  }
  const next = text.indexOf('\n', stop)
  // A type at the end of the statement belongs to it.
  const rest = code.slice(stop, next < 0 ? undefined : next)
  const spaces = /^[ \t]*/.exec(text.slice(end))?.[0].length ?? 0
  if (rest.trim() !== '')
    return { start: end, end: end + spaces, text: `${newline}${indent}${line}${newline}${indent}` }
  if (next < 0) return { start: text.length, end: text.length, text: newline + indent + line + newline }
  return { start: next + 1, end: next + 1, text: indent + line + newline }
}

function indentAt(text: string, position: number): string {
  const start = text.lastIndexOf('\n', position - 1) + 1
  const before = text.slice(start, position)
  return before.slice(0, before.length - before.trimStart().length)
}

/** Whether `serverOptions()` can be merged into the options. In TypeScript, its type is none of HTTP/2. */
export function takesServerOptions({ source, call }: Instance): boolean {
  const [options, ...more] = call.arguments
  if (more.length > 0 || options?.type === 'SpreadElement') return false
  return options?.type !== 'ObjectExpression' || !isTypeScript(source.file) || !property(options, 'http2')
}

/** @param hasLoggerInstance whether options that are no literal may have one */
function serverOptionsEdits(
  { source, call }: Instance,
  serverOptions: string,
  { newline }: Style,
  hasLoggerInstance: boolean,
): Edit[] {
  const [options] = call.arguments
  if (!options) return [{ start: call.end - 1, end: call.end - 1, text: serverOptions }]
  if (options.type !== 'ObjectExpression') {
    const { start, end, type } = options
    const logger = hasLoggerInstance ? ' logger: undefined,' : ''
    const [open, close] = /^(?:Identifier|MemberExpression|CallExpression)$/.test(type) ? ['', ''] : ['(', ')']
    return [
      { start, end: start, text: `{ ...${serverOptions},${logger} ...${open}` },
      { start: end, end, text: `${close} }` },
    ]
  }
  const [first] = options.properties
  if (!first) return [{ start: options.start, end: options.end, text: serverOptions }]
  const isBelow = source.text.slice(options.start, first.start).includes('\n')
  const hasSpread = options.properties.some(({ type }) => type === 'SpreadElement')
  const hasOwn = property(options, 'loggerInstance') !== undefined || (hasSpread && hasLoggerInstance)
  // Fastify rejects a logger of options beside a finished one.
  const logger = hasOwn ? ['logger: undefined,'] : []
  const separator = isBelow ? newline + indentAt(source.text, first.start) : ' '
  const text = [`...${serverOptions},`, ...logger].map((part) => part + separator).join('')
  return [{ start: first.start, end: first.start, text }]
}

/** The value of a property that an object literal names. */
export function property({ properties }: ObjectExpression, name: string): AnyNode | undefined {
  for (const one of properties) {
    if (one.type !== 'Property' || one.computed) continue
    const key = one.key.type === 'Identifier' ? one.key.name : (one.key as Literal).value
    if (key === name) return one.value
  }
  return undefined
}
