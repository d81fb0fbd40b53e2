// Reads TypeScript with @babel/parser and walks the part that runs: types, imports and declarations without code are left out.
import { parse } from '@babel/parser'

/** @throws SyntaxError */
export const programOf = (source) => parse(source, { sourceType: 'module', plugins: ['typescript'] }).program

/** TypeScript around code. All other nodes of TypeScript are types. */
const transparent = new Set(['TSAsExpression', 'TSSatisfiesExpression', 'TSNonNullExpression', 'TSParameterProperty'])

const runs = ({ type, declare }) =>
  !declare &&
  (!type.startsWith('TS') || transparent.has(type)) &&
  !['ImportDeclaration', 'ExportAllDeclaration', 'ExportSpecifier', 'Directive'].includes(type)

/** Calls `visit(node, ancestors)` for each node, parents first; nearest ancestor last. `false` leaves out what is below. */
export function walk(node, visit, ancestors = []) {
  if (!runs(node) || visit(node, ancestors) === false) return
  const below = [...ancestors, node]
  for (const [key, value] of Object.entries(node)) {
    if (key.endsWith('Comments') || key === 'loc' || key === 'extra') continue
    for (const child of Array.isArray(value) ? value : [value]) if (child?.type) walk(child, visit, below)
  }
}

/** Paths in a file that start with `./`, `../` or `src/`: of imports that load code, and of programs that it starts. */
export function pathsIn(source) {
  const found = new Set()
  const add = (literal) => /^(\.{1,2}|src)\//.test(literal?.value) && found.add(literal.value)
  const program = programOf(source)
  for (const node of program.body) {
    const isTypes = (node.importKind ?? node.exportKind) === 'type'
    const names = node.specifiers ?? []
    const onlyTypes = names.length > 0 && names.every(({ importKind }) => importKind === 'type')
    if (!isTypes && !onlyTypes) add(node.source)
  }
  walk(program, (node) => void (node.type === 'StringLiteral' && add(node)))
  return [...found]
}
