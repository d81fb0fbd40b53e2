import { parse } from '@babel/parser'

/** A call such as `prove('title', 'promise', …)` in a source file. */
export interface TitledCall {
  /** The title, with `*` for what a template inserts, and for an expression. */
  readonly title: string
  /** The texts in the second argument. */
  readonly second: readonly string[]
}

type Node = { type: string } & Record<string, unknown>
const isNode = (value: unknown): value is Node => typeof (value as Node | undefined)?.type === 'string'

/** The calls of functions with such names, also as members (`t.test(…)`). */
export function titledCalls(source: string, names: RegExp): TitledCall[] {
  const calls: TitledCall[] = []
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) for (const one of value) visit(one)
    if (!isNode(value)) return
    if (value.type === 'CallExpression' && names.test(calledName(value.callee as Node))) {
      const [first, second] = value.arguments as Node[]
      if (first) calls.push({ title: text(first) ?? '*', second: second ? textsIn(second) : [] })
    }
    for (const [key, child] of Object.entries(value)) if (key !== 'loc') visit(child)
  }
  visit(parse(source, { sourceType: 'module', plugins: ['typescript'] }).program)
  return calls
}

/** Whether a title with `*` can be this one. */
export function matchesTitle(pattern: string, title: string): boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`, 's').test(title)
}

/** Whether a title with `*` can contain this text. What a template inserts is known when it runs only, so it may be any. */
export const canContain = (pattern: string, text: string): boolean => pattern.includes('*') || pattern.includes(text)

function calledName(callee: Node): string {
  const name = callee.type === 'MemberExpression' ? (callee.property as Node) : callee
  return String(name.name)
}

function text(node: Node): string | undefined {
  if (node.type === 'StringLiteral') return node.value as string
  if (node.type !== 'TemplateLiteral') return undefined
  return (node.quasis as { value: { cooked: string } }[]).map(({ value }) => value.cooked).join('*')
}

function textsIn(node: Node): string[] {
  if (node.type === 'ConditionalExpression')
    return [node.consequent, node.alternate].flatMap((one) => textsIn(one as Node))
  const one = text(node)
  return one === undefined ? [] : [one]
}
