import type { Fact } from '../facts.ts'

/** An instruction, at its first line. */
export interface Instruction extends Fact<string> {
  readonly name: string
}

/** The instructions of a Dockerfile: continued lines are joined, comments and the bodies of here-documents are left out. */
export function instructionsOf(file: string, text: string): Instruction[] {
  const continuation = /^\s*#\s*escape\s*=\s*`/im.test(text.slice(0, 1_000)) ? '`' : '\\'
  const found: Instruction[] = []
  const lines = text.split(/\r?\n/)
  let joined = ''
  let first = 0
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? ''
    // Also between continued lines.
    if (/^\s*#/.test(line) || (joined !== '' && line.trim() === '')) continue
    if (joined === '') first = at + 1
    const trimmed = line.trimEnd()
    if (trimmed.endsWith(continuation)) {
      joined += `${trimmed.slice(0, -1)} `
      continue
    }
    joined += trimmed
    const [, name = '', value = ''] = /^\s*([A-Za-z]+)\s+(.*)$/s.exec(joined) ?? []
    if (name) found.push({ name: name.toUpperCase(), value: value.trim(), file, line: first })
    if (/^(?:RUN|COPY|ADD)$/i.test(name)) at = endOfHereDocuments(lines, at, value)
    joined = ''
  }
  return found
}

function endOfHereDocuments(lines: readonly string[], at: number, value: string): number {
  let end = at
  for (const [, word] of value.matchAll(/<<-?\s?["']?([\w.-]+)["']?/g)) {
    const next = lines.findIndex((line, i) => i > end && line.trim() === word)
    if (next !== -1) end = next
  }
  return end
}

export interface Stage {
  readonly name: string
  readonly base: string
  readonly instructions: readonly Instruction[]
  /** How many of them are those of the stage that it is built on. */
  readonly inherited: number
}

/** The stages, each with the instructions of the stage that it is built on. */
export function stagesOf(instructions: readonly Instruction[]): Stage[] {
  const stages: (Stage & { instructions: Instruction[] })[] = []
  const args = new Map<string, string>()
  for (const one of instructions) {
    if (one.name === 'ARG' && stages.length === 0) {
      const [name = '', ...value] = one.value.split('=')
      args.set(name.trim(), value.join('=').replace(/^["']|["']$/g, ''))
    }
    if (one.name !== 'FROM') {
      stages.at(-1)?.instructions.push(one)
      continue
    }
    const words = one.value.split(/\s+/).filter((word) => !word.startsWith('--'))
    const image = (words[0] ?? '').replace(
      /\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))/g,
      (_, braced, byDefault, plain) => args.get(braced ?? plain) || byDefault || '',
    )
    const name = /^as$/i.test(words[1] ?? '') ? (words[2] ?? '') : ''
    const parent = stages.find((stage) => stage.name.toLowerCase() === image.toLowerCase() && stage.name !== '')
    const instructions = [...(parent?.instructions ?? [])]
    stages.push({ name, base: parent?.base ?? image, instructions, inherited: instructions.length })
  }
  return stages
}

/** The words of the exec form; `undefined` for the shell form. */
export function execForm(value: string): string[] | undefined {
  if (!value.trimStart().startsWith('[')) return undefined
  try {
    const words: unknown = JSON.parse(value)
    return Array.isArray(words) ? words.map(String) : undefined
  } catch {
    return undefined
  }
}
