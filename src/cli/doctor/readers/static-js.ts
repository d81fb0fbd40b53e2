import { type AnyNode, type Options, type Program, parse, parseExpressionAt } from 'acorn'

/** A value that only an execution of the file would give. */
export const unresolved: unique symbol = Symbol('unresolved')
type Primitive = string | number | boolean | null | undefined
export type StaticValue = Primitive | typeof unresolved | readonly StaticValue[] | StaticObject
/** Members in their order, each with its line. */
export type StaticObject = ReadonlyMap<string, { readonly value: StaticValue; readonly line: number }>

export const isObject = (value: StaticValue): value is StaticObject => value instanceof Map
const isPrimitive = (value: StaticValue): value is Primitive =>
  value === null || (typeof value !== 'object' && typeof value !== 'symbol')

/** Limits for hostile files: nested expressions, the size of one value, and the sizes of all values together. */
const [maxDepth, maxSize, maxTotal] = [1_000, 65_536, 10_000_000]
/** The environment, in which no variable is set. */
const environment: StaticObject = new Map()
const globals = {
  undefined,
  NaN: Number.NaN,
  Infinity: 1 / 0,
  process: new Map([['env', { value: environment, line: 1 }]]),
}
const conversions = new Map<string, (value: Primitive) => Primitive>(Object.entries({ Number, String, Boolean }))

/**
 * The value that a CommonJS or ES module exports, computed from its syntax tree. Nothing is executed: literals, constants,
 * operators and defaults of `process.env` have a value, everything else is {@link unresolved}.
 *
 * @throws SyntaxError with the `line`
 */
export function exportsOf(text: string): StaticValue {
  const { body } = parsed((options): Program => {
    try {
      return parse(text, { ...options, sourceType: 'module' })
    } catch {
      return parse(text, { ...options, sourceType: 'commonjs', allowImportExportEverywhere: true })
    }
  })
  const evaluator = new Evaluator()
  const members = new Map<string, { value: StaticValue; line: number }>()
  let exported: StaticValue = unresolved
  for (const statement of body) {
    const line = statement.loc?.start.line ?? 1
    const declared = statement.type === 'ExportNamedDeclaration' ? statement.declaration : statement
    if (declared?.type === 'VariableDeclaration' && declared.kind === 'const') {
      for (const { id, init } of declared.declarations) {
        if (id.type !== 'Identifier' || !init) continue
        evaluator.constants.set(id.name, evaluator.value(init))
        if (declared !== statement) members.set(id.name, { value: evaluator.value(id), line })
      }
    } else if (statement.type === 'ExportDefaultDeclaration') exported = evaluator.value(statement.declaration)
    else if (statement.type === 'ExpressionStatement' && statement.expression.type === 'AssignmentExpression') {
      const [, name] = /^(?:module\.)?exports(?:\.(\w+))?$/.exec(pathOf(statement.expression.left)) ?? [undefined, '']
      if (name) members.set(name, { value: evaluator.value(statement.expression), line })
      else if (name === undefined) exported = evaluator.value(statement.expression)
      else evaluator.forget(statement)
    } else if (!declares.test(statement.type)) evaluator.forget(statement)
  }
  return members.size > 0 ? new Map([...(isObject(exported) ? exported : []), ...members]) : exported
}

/** Statements that change no constant. */
const declares = /^(?:Import|Function|Class|Variable|Export|Empty)/

/** The value of a JSON file, which pm2 reads as an expression: with comments, and with the lines of its members. @throws SyntaxError */
export const jsonOf = (text: string): StaticValue =>
  new Evaluator().value(parsed((options) => parseExpressionAt(text, 0, options)))

function parsed<T>(parser: (options: Options) => T): T {
  try {
    return parser({ ecmaVersion: 'latest', locations: true })
  } catch (error) {
    if (error instanceof RangeError) throw new SyntaxError('it is nested too deeply')
    throw Object.assign(error as Error, { line: (error as { loc?: { line: number } }).loc?.line })
  }
}

/** `a.b.c` of nested member accesses by name. */
function pathOf(node: AnyNode): string {
  if (node.type !== 'MemberExpression') return node.type === 'Identifier' ? node.name : '?'
  return node.computed || node.property.type !== 'Identifier' ? '?' : `${pathOf(node.object)}.${node.property.name}`
}

class Evaluator {
  readonly constants = new Map<string, StaticValue>(Object.entries(globals))
  #depth = 0
  #total = 0

  /** A statement that is not understood may change every constant that it names. */
  forget(statement: AnyNode): void {
    const nodes: unknown[] = [statement]
    for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) {
      if (typeof node !== 'object' || node === null) continue
      const { type, name } = node as { type?: unknown; name?: unknown }
      if (type === 'Identifier' && this.constants.has(String(name)) && !Object.hasOwn(globals, String(name)))
        this.constants.set(String(name), unresolved)
      nodes.push(...Object.values(node))
    }
  }

  value(node: AnyNode): StaticValue {
    if (++this.#depth > maxDepth) throw new SyntaxError('it is nested too deeply')
    const value = this.#value(node)
    this.#depth--
    return value
  }

  #value(node: AnyNode): StaticValue {
    switch (node.type) {
      case 'Literal':
        return typeof node.value === 'bigint' || node.value instanceof RegExp ? unresolved : node.value
      case 'Identifier':
        return this.constants.has(node.name) ? this.constants.get(node.name) : unresolved
      case 'ChainExpression':
        return this.value(node.expression)
      case 'AssignmentExpression':
        return node.operator === '=' ? this.value(node.right) : unresolved
      case 'ConditionalExpression': {
        const test = this.value(node.test)
        return test === unresolved ? unresolved : this.value(test ? node.consequent : node.alternate)
      }
      case 'LogicalExpression': {
        const left = this.value(node.left)
        const isDecided = { '??': left !== null && left !== undefined, '||': !!left, '&&': !left }[node.operator]
        return left === unresolved || isDecided ? left : this.value(node.right)
      }
      case 'TemplateLiteral': {
        const parts = node.quasis.map(({ value }): StaticValue => value.cooked)
        for (const [i, part] of node.expressions.entries()) parts.splice(2 * i + 1, 0, this.value(part))
        return parts.every(isPrimitive) ? this.#bounded(parts.join('')) : unresolved
      }
      case 'UnaryExpression':
        return this.#calculated(`unary ${node.operator}`, 0, this.value(node.argument))
      case 'BinaryExpression':
        return this.#calculated(node.operator, this.value(node.left), this.value(node.right))
      case 'MemberExpression': {
        const object = this.value(node.object)
        const byName = !node.computed && node.property.type === 'Identifier'
        const key = byName ? pathOf(node.property) : this.value(node.property)
        if (object === environment) return undefined
        if (Array.isArray(object)) return Object.hasOwn(object, String(key)) ? object[Number(key)] : unresolved
        return isObject(object) && object.has(String(key)) ? object.get(String(key))?.value : unresolved
      }
      case 'CallExpression': {
        const [argument] = node.arguments
        if (!argument || node.arguments.length > 1) return unresolved
        const value = this.value(argument)
        const convert = conversions.get(pathOf(node.callee))
        return convert && isPrimitive(value) ? convert(value) : unresolved
      }
      case 'ArrayExpression': {
        const items: StaticValue[] = []
        for (const element of node.elements) {
          const value =
            element?.type === 'SpreadElement' ? this.value(element.argument) : element && this.value(element)
          if (element?.type !== 'SpreadElement') items.push(value)
          else items.push(...(Array.isArray(value) && this.#bounded(value) !== unresolved ? value : [unresolved]))
        }
        return this.#bounded(items)
      }
      case 'ObjectExpression': {
        const members = new Map<string, { value: StaticValue; line: number }>()
        for (const property of node.properties) {
          if (property.type === 'SpreadElement') {
            const value = this.#bounded(this.value(property.argument))
            if (isObject(value)) for (const [name, member] of value) members.set(name, member)
            continue
          }
          const byName = !property.computed && property.key.type === 'Identifier'
          const name = byName ? pathOf(property.key) : this.value(property.key)
          const value = property.kind === 'init' ? this.value(property.value) : unresolved
          if (isPrimitive(name)) members.set(String(name), { value, line: property.loc?.start.line ?? 1 })
        }
        return this.#bounded(members)
      }
      default:
        return unresolved
    }
  }

  #calculated(operator: string, left: StaticValue, right: StaticValue): StaticValue {
    if (operator === 'unary !') return right === unresolved ? unresolved : !right
    if (!isPrimitive(left) || !isPrimitive(right)) return unresolved
    if (operator === '===') return left === right
    if (operator === '!==') return left !== right
    if (operator === '+' && [left, right].some((one) => typeof one === 'string'))
      return this.#bounded(`${left}${right}`)
    const [a, b] = [Number(left), Number(right)]
    const results = { '+': a + b, '-': a - b, '*': a * b, '/': a / b, '%': a % b, '**': a ** b }
    return { ...results, 'unary -': -b, 'unary +': b }[operator] ?? unresolved
  }

  /** A value that is put together; {@link unresolved} where it is too large. */
  #bounded(value: StaticValue): StaticValue {
    const size = typeof value === 'string' || Array.isArray(value) ? value.length : isObject(value) ? value.size : 0
    this.#total += size
    if (this.#total > maxTotal) throw new SyntaxError('its values are too large')
    return size > maxSize ? unresolved : value
  }
}
