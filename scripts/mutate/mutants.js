// The mutants of a source file. A mutant is one small change that a test should notice.
import { programOf, walk } from './syntax.js'

const swaps = {
  boundary: { '<': '<=', '<=': '<', '>': '>=', '>=': '>' },
  equality: { '===': '!==', '!==': '===', '==': '!=', '!=': '==' },
  logical: { '&&': '||', '||': '&&' },
  arithmetic: { '+': '-', '-': '+', '*': '/', '/': '*', '%': '*', '+=': '-=', '-=': '+=', '++': '--', '--': '++' },
}
const kindOfOperator = new Map(
  Object.entries(swaps).flatMap(([kind, table]) => Object.keys(table).map((operator) => [operator, kind])),
)
const methods = new Map(
  ['every some', 'min max', 'floor ceil', 'startsWith endsWith', 'push unshift', 'shift pop']
    .map((pair) => pair.split(' '))
    .flatMap(([a, b]) => [
      [a, b],
      [b, a],
    ]),
)
/** Changes that may not be valid code, such as `||` beside `??`. */
const risky = new Set(['logical', 'arithmetic', 'nullish', 'negation', 'optional', 'else'])
/** Length of code in a description. */
const longest = 70
const comparisons = new Set([...Object.keys(swaps.boundary), ...Object.keys(swaps.equality), 'in', 'instanceof'])

/**
 * Mutants in the order of the source: `{ file, line, text, mutation, start, end, replacement }`. `text` is the line without
 * indentation, and `mutation` says what becomes what, e.g. `boundary: a < b → a <= b`.
 */
export function mutantsOf(file, source) {
  const lines = source.split('\n')
  const found = new Map()
  /** Replaces `node`; the description shows the code `around` it, unless that is long. */
  const add = (kind, node, replacement, around = node) => {
    const { start, end } = node
    const whole = around.end - around.start > longest ? node : around
    const mutated = source.slice(0, start) + replacement + source.slice(end)
    if (source.slice(start, end) === replacement || (risky.has(kind) && !parses(mutated))) return
    const before = source.slice(whole.start, whole.end)
    const after = mutated.slice(whole.start, whole.end + mutated.length - source.length)
    const line = lineOf(source, start)
    const mutation = `${kind}: ${short(before)} → ${short(after) || 'nothing'}`
    const text = lines[line - 1].trim()
    found.set(`${start} ${end} ${replacement}`, { file, line, text, mutation, start, end, replacement })
  }
  walk(programOf(source), (node, ancestors) => {
    if (isMessage(node)) return false
    mutate(node, ancestors, source, add)
  })
  return [...found.values()].sort((a, b) => a.start - b.start)
}

function mutate(node, ancestors, source, add) {
  const parent = ancestors.at(-1)
  const textOf = ({ start, end }) => source.slice(start, end)
  /** A piece of the source between two nodes, such as an operator. */
  const between = (text, from, to) => {
    const start = source.indexOf(text, from)
    return start >= 0 && start + text.length <= to ? { start, end: start + text.length } : undefined
  }
  const { operator } = node
  switch (node.type) {
    case 'BinaryExpression':
    case 'LogicalExpression':
    case 'AssignmentExpression': {
      const kind = kindOfOperator.get(operator)
      if (kind && !(operator.startsWith('+') && (isText(node.left) || isText(node.right))))
        add(kind, between(operator, node.left.end, node.right.start), swaps[kind][operator], node)
      if (operator === '??') add('nullish', node, textOf(node.left))
      break
    }
    case 'UpdateExpression': {
      const start = node.prefix ? node.start : node.argument.end
      add('arithmetic', { start, end: start + 2 }, swaps.arithmetic[operator], node)
      break
    }
    case 'UnaryExpression':
      if (operator === '!') add('negation', node, textOf(node.argument))
      break
    case 'IfStatement':
      condition(node.test, add)
      if (node.alternate) {
        if (node.consequent.type === 'BlockStatement' && node.consequent.body.length > 0)
          add('block', node.consequent, '{}')
        add('else', { start: node.consequent.end, end: node.alternate.end }, '', node.alternate)
      }
      break
    case 'ConditionalExpression':
      condition(node.test, add)
      break
    case 'WhileStatement':
    case 'ForStatement':
      // `true` would only be an endless loop.
      if (node.test && node.test.type !== 'BooleanLiteral') add('condition', node.test, 'false')
      break
    case 'NumericLiteral':
      add('number', node, `${node.value + 1}`, parent)
      if (node.value !== 0) add('number', node, '0', parent)
      break
    case 'BooleanLiteral':
      add('boolean', node, `${!node.value}`, parent)
      break
    case 'StringLiteral':
      // A state, a field or a name: text for people has spaces.
      if (/^[\w.:@/-]+$/.test(node.value) && (parent.key !== node || parent.computed)) add('string', node, "''", parent)
      break
    case 'ReturnStatement':
      if (isBoolean(node.argument, ancestors.findLast(isFunction)))
        for (const value of ['true', 'false']) add('return', node.argument, value)
      break
    case 'ArrowFunctionExpression':
      if (isBoolean(node.body, node)) for (const value of ['true', 'false']) add('return', node.body, value)
      break
    case 'ExpressionStatement':
      if (isEffect(node.expression) && !isMessage(node.expression)) add('statement', node, ';')
      break
    case 'OptionalMemberExpression':
      if (node.optional) {
        const mark = between('?.', node.object.end, node.property.start)
        add('optional', mark, node.computed ? '' : '.', node)
      }
      break
    case 'OptionalCallExpression':
      if (node.optional) add('optional', between('?.', node.callee.end, node.end), '', node)
      break
    case 'CallExpression': {
      const { property, computed } = node.callee
      if (property && !computed && methods.has(property.name)) add('method', property, methods.get(property.name), node)
      break
    }
  }
}

function condition(test, add) {
  for (const value of ['true', 'false']) if (test.type !== 'BooleanLiteral') add('condition', test, value)
}

/** Log lines and errors: their wording is not behaviour. */
function isMessage(node) {
  if (node.type === 'ThrowStatement') return true
  if (node.type === 'NewExpression') return /Error$/.test(node.callee.name)
  if (!node.type.endsWith('CallExpression')) return false
  const { object, property } = node.callee
  if (!object) return false
  const owner = object.name ?? object.property?.name ?? object.property?.id?.name
  return (
    owner === 'console' ||
    (owner === 'process' && property.name === 'emitWarning') ||
    (/^log(ger)?$/i.test(owner) && /^(trace|debug|info|warn|error|fatal)$/.test(property.name))
  )
}

const isText = ({ type }) => type === 'StringLiteral' || type === 'TemplateLiteral'
const isFunction = ({ type }) => /Function|Method/.test(type)

function isBoolean(value, owner) {
  if (!value || value.type === 'BlockStatement' || value.type === 'BooleanLiteral') return false
  if (owner?.returnType?.typeAnnotation.type === 'TSBooleanKeyword') return true
  return comparisons.has(value.operator) || value.operator === '!'
}

/** A call, assignment or increment whose value is not used. The call of the base class must stay. */
function isEffect({ type, argument, callee, operator }) {
  if (type === 'AwaitExpression') return isEffect(argument)
  if (type === 'UnaryExpression') return operator === 'void' && isEffect(argument)
  if (type.endsWith('CallExpression')) return callee.type !== 'Super'
  return type === 'AssignmentExpression' || type === 'UpdateExpression'
}

function parses(source) {
  try {
    programOf(source)
    return true
  } catch {
    return false
  }
}

const lineOf = (source, at) => source.slice(0, at).split('\n').length

function short(code) {
  const line = code.replace(/\s+/g, ' ').trim()
  return line.length > longest ? `${line.slice(0, 45)} … ${line.slice(-20)}` : line
}
