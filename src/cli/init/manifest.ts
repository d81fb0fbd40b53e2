import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ObjectExpression, parseExpressionAt } from 'acorn'
import { readRegular } from '../../base/regular-file.ts'
import { usageError } from '../args.ts'
import type { Edit } from './change.ts'
import { property } from './register.ts'

/** The parts of a package.json that matter here. */
export interface Manifest {
  readonly text: string
  readonly name?: string
  readonly type?: string
  readonly main?: string
  readonly scripts: Readonly<Record<string, string>>
  /** All kinds together. */
  readonly dependencies: Readonly<Record<string, string>>
  readonly workspaces: boolean
}

/** @throws FLEET_ERR_USAGE if there is none, or if it is not JSON */
export function readManifest(folder: string): Manifest {
  const file = join(folder, 'package.json')
  const text = readRegular(file, true)
  if (text === undefined)
    throw usageError(`no ${file}; name the folder of an app, or make a new one with \`fleet init --new DIR\``)
  let found: Record<string, unknown>
  try {
    found = Object(JSON.parse(text)) as Record<string, unknown>
  } catch (error) {
    throw usageError(`${file} is not JSON: ${(error as Error).message}`)
  }
  const textOf = (name: string): string | undefined => {
    const value = found[name]
    return typeof value === 'string' ? value : undefined
  }
  const textsOf = (name: string): Record<string, string> =>
    Object.fromEntries(Object.entries(Object(found[name])).filter(([, value]) => typeof value === 'string')) as Record<
      string,
      string
    >
  return {
    text,
    name: textOf('name'),
    type: textOf('type'),
    main: textOf('main'),
    scripts: textsOf('scripts'),
    dependencies: { ...textsOf('peerDependencies'), ...textsOf('devDependencies'), ...textsOf('dependencies') },
    workspaces: found.workspaces !== undefined,
  }
}

/** This package. */
export interface Own {
  readonly version: string
  readonly devDependencies: Readonly<Record<string, string>>
  readonly peerDependencies: Readonly<Record<string, string>>
}
export function own(): Own {
  const file = new URL('../../../package.json', import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')) as Own
}

/** Adds entries to objects of a JSON file and keeps everything else as it is. Entries that exist are kept. */
export function addEntries(text: string, added: Readonly<Record<string, Readonly<Record<string, string>>>>): Edit[] {
  const root = parseExpressionAt(text, 0, { ecmaVersion: 'latest' }) as ObjectExpression
  const newline = text.includes('\r\n') ? '\r\n' : '\n'
  const [first] = root.properties
  const unit = (first && /\n([ \t]+)$/.exec(text.slice(root.start, first.start))?.[1]) ?? '  '
  return Object.entries(added).flatMap(([name, entries]) => {
    const object = property(root, name)
    const missing = Object.entries(entries).filter(
      ([key]) => object?.type !== 'ObjectExpression' || !property(object, key),
    )
    if (missing.length === 0) return []
    const lines = missing.map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`)
    const inner = newline + unit + unit
    if (object?.type === 'ObjectExpression') {
      if (object.properties.length > 0)
        return [insertion(text, object, name === 'dependencies' ? missing[0]?.[0] : undefined, lines)]
      const { start, end } = object
      return [{ start, end, text: `{${lines.map((line) => inner + line).join(',')}${newline}${unit}}` }]
    }
    const block = `${JSON.stringify(name)}: {${lines.map((line) => inner + line).join(',')}${newline}${unit}}`
    const last = root.properties.at(-1)
    if (last) return [{ start: last.end, end: last.end, text: `,${newline}${unit}${block}` }]
    return [{ start: root.start, end: root.end, text: `{${newline}${unit}${block}${newline}}` }]
  })
}

/** Behind the last entry; with a `key`, in a list in alphabetical order, where that belongs. */
function insertion(
  text: string,
  { start, properties }: ObjectExpression,
  key: string | undefined,
  lines: readonly string[],
): Edit {
  const keys = properties.map((one) =>
    one.type === 'Property' && one.key.type === 'Literal' ? String(one.key.value) : '',
  )
  const isSorted = key !== undefined && keys.every((one, i) => i === 0 || (keys[i - 1] ?? '') <= one)
  const at = isSorted ? keys.findLastIndex((one) => one < key) : keys.length - 1
  const [first] = properties
  const gap = text.slice(start + 1, first?.start)
  const before = properties[at]
  if (!before)
    return {
      start: first?.start ?? start,
      end: first?.start ?? start,
      text: lines.map((line) => `${line},${gap}`).join(''),
    }
  return {
    start: before.end,
    end: before.end,
    text: lines.map((line) => `,${gap.includes('\n') ? gap : ' '}${line}`).join(''),
  }
}
