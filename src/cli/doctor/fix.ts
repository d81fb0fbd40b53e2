import { lstatSync, readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { isWithin } from '../../base/regular-file.ts'
import { replaceFile } from '../replace-file.ts'
import type { Finding } from './evaluate.ts'
import { byteOrderMark, type Replacement, type Source } from './facts.ts'

/** The new text of a file, and what changes. */
export interface Fix {
  readonly file: string
  readonly text: string
  readonly fixed: readonly Finding[]
  readonly diff: readonly string[]
}

/**
 * The changes of the findings that have one. Only files that were named, or are in the named folders, are changed: no links, and not
 * what a file claims to include.
 */
export function fixesOf(findings: readonly Finding[], sources: readonly Source[], names: readonly string[]): Fix[] {
  const byFile = new Map(sources.map((source) => [source.file, source]))
  return [...Map.groupBy(findings, ({ file }) => file)].flatMap(([file, own]) => {
    const source = byFile.get(file)
    if (!source || source.isReference || !isChangeable(file, names)) return []
    const fix = changed(source, own)
    return fix.fixed.length > 0 ? [fix] : []
  })
}

function isChangeable(file: string, names: readonly string[]): boolean {
  try {
    if (!lstatSync(file).isFile()) return false
    return names.some((name) => isWithin(file, lstatSync(name).isDirectory() ? name : dirname(name)))
  } catch {
    return false
  }
}

function changed({ file, text }: Source, findings: readonly Finding[]): Fix {
  const lines = text.split('\n')
  const fixed: Finding[] = []
  const touched = new Set<number>()
  for (const finding of findings) {
    const { edit, line } = finding
    const after = edit && replaced(lines[line - 1] ?? '', edit)
    if (after === undefined) continue
    lines[line - 1] = after
    fixed.push(finding)
    touched.add(line)
  }
  const before = text.split('\n')
  const diff = [`--- ${file}`, `+++ ${file}`]
  for (const line of [...touched].sort((a, b) => a - b)) {
    diff.push(`@@ line ${line} @@`, `-${before[line - 1]}`)
    diff.push(...(lines[line - 1] ?? '').split('\n').map((one) => `+${one}`))
  }
  return { file, text: lines.join('\n'), fixed, diff }
}

/** `undefined` unless the text occurs once, or begins the line. New lines get the indentation and the end of the old one. */
function replaced(line: string, { from, to }: Replacement): string | undefined {
  const indent = /^\s*/.exec(line)?.[0] ?? ''
  const parts = line.split(from)
  if (from === '' || parts.length < 2 || (parts.length > 2 && !line.startsWith(from, indent.length))) return undefined
  const at = line.indexOf(from)
  const end = line.endsWith('\r') ? '\r\n' : '\n'
  return line.slice(0, at) + to.replaceAll('\n', end + indent) + line.slice(at + from.length)
}

/** Writes the new text, unless the file has changed since. @returns whether it was written */
export async function write({ file, text }: Fix, source: Source): Promise<boolean> {
  const path = resolve(file)
  const before = readFileSync(path, 'utf8')
  // The mark of its encoding is not part of the text that was read.
  const mark = before.startsWith(byteOrderMark) ? byteOrderMark : ''
  if (before !== mark + source.text) return false
  await replaceFile(path, mark + text)
  return true
}
