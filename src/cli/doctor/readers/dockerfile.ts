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
  const places = new Lines(lines)
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
    if (/^(?:RUN|COPY|ADD)$/i.test(name)) at = endOfHereDocuments(places, at, value)
    joined = ''
  }
  return found
}

/** Finds the ends of here-documents. Searches go forward only, so that many documents without an end cost no more than one. */
class Lines {
  readonly #places = new Map<string, { readonly at: number[]; next: number }>()

  constructor(lines: readonly string[]) {
    for (const [index, line] of lines.entries()) {
      const word = line.trim()
      const place = this.#places.get(word) ?? { at: [], next: 0 }
      place.at.push(index)
      this.#places.set(word, place)
    }
  }

  /** The first line after `from` that has only this word. */
  after(from: number, word: string): number | undefined {
    const place = this.#places.get(word)
    if (!place) return undefined
    while ((place.at[place.next] ?? Number.POSITIVE_INFINITY) <= from) place.next++
    return place.at[place.next]
  }
}

function endOfHereDocuments(lines: Lines, at: number, value: string): number {
  let end = at
  for (const [, word = ''] of value.matchAll(/<<-?\s?["']?([\w.-]+)["']?/g)) end = lines.after(end, word) ?? end
  return end
}

export interface Stage {
  readonly name: string
  /** The image below the first stage. */
  readonly base: string
  /** The stage that it is built on. */
  readonly parent?: Stage
  readonly own: readonly Instruction[]
}

/** The last instruction of this name, of the stage or of those below it. */
export function lastOf(stage: Stage, name: string): Instruction | undefined {
  for (let at: Stage | undefined = stage; at; at = at.parent) {
    const found = at.own.findLast((one) => one.name === name)
    if (found) return found
  }
  return undefined
}

/** The instructions of the stages below and of this one, in their order. */
export function instructionsIn(stage: Stage): Instruction[] {
  const chain: Stage[] = []
  for (let at: Stage | undefined = stage; at; at = at.parent) chain.unshift(at)
  return chain.flatMap(({ own }) => own)
}

/** The stages in their order. */
export function stagesOf(instructions: readonly Instruction[]): Stage[] {
  const stages: (Stage & { own: Instruction[] })[] = []
  const byName = new Map<string, Stage>()
  const args = new Map<string, string>()
  for (const one of instructions) {
    if (one.name === 'ARG' && stages.length === 0) {
      const [name = '', ...value] = one.value.split('=')
      args.set(name.trim(), value.join('=').replace(/^["']|["']$/g, ''))
    }
    if (one.name !== 'FROM') {
      stages.at(-1)?.own.push(one)
      continue
    }
    const words = one.value.split(/\s+/).filter((word) => !word.startsWith('--'))
    const image = (words[0] ?? '').replace(
      /\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))/g,
      (_, braced, byDefault, plain) => args.get(braced ?? plain) || byDefault || '',
    )
    const name = /^as$/i.test(words[1] ?? '') ? (words[2] ?? '') : ''
    const parent = byName.get(image.toLowerCase())
    const stage = { name, base: parent?.base ?? image, parent, own: [] }
    stages.push(stage)
    if (name !== '') byName.set(name.toLowerCase(), stage)
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
