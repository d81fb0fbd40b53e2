/** Words that only run the command after them. */
const wrappers =
  /^(?:env|nice|nohup|gosu|su-exec|setpriv|tini|tini-static|catatonit|dumb-init|docker-entrypoint\.sh|exec)$/
/** Options of wrappers that have a value in the next word, and words that name a user. */
const takesValue = /^-(?:p|e|r|u|n)$/
const takesUser = /^(?:gosu|su-exec)$/

const baseOf = (word: string): string => word.slice(word.lastIndexOf('/') + 1)

/**
 * The command that receives the signals of a container, of an argument list: without `tini`, `gosu`, `env` and the like, which pass
 * them on. `undefined` when a whole process group receives them, so that whatever is in between does not matter.
 */
export function commandOf(words: readonly string[]): string | undefined {
  let at = 0
  while (at < words.length) {
    const name = baseOf(words[at] ?? '')
    if (!wrappers.test(name)) break
    const first = at++
    while (at < words.length && /^-/.test(words[at] ?? '') && words[at] !== '--')
      at += takesValue.test(words[at] ?? '') ? 2 : 1
    const options = words.slice(first + 1, at)
    if (name === 'dumb-init' && !options.some((option) => /^(?:-c|--single-child)$/.test(option))) return undefined
    if (/^tini/.test(name) && options.some((option) => /^-\w*g/.test(option))) return undefined
    if (takesUser.test(name)) at++
    if (words[at] === '--') at++
    while (name === 'env' && /^\w+=/.test(words[at] ?? '')) at++
  }
  const rest = words.slice(at)
  return rest.length === 0 ? undefined : rest.join(' ')
}

/** A command for a shell, which stays process 1 unless the text begins with `exec`. */
export function shellCommandOf(text: string): string | undefined {
  const trimmed = text.trim()
  const [, inner] = /^exec\s+(.*)$/s.exec(trimmed) ?? []
  if (inner !== undefined) return commandOf(wordsOf(inner))
  return trimmed === '' ? undefined : `sh -c ${trimmed}`
}

/** Splits a command line into words as a shell does, without expanding anything. */
export function wordsOf(line: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let quote = ''
  for (let at = 0; at < line.length; at++) {
    const letter = line[at] as string
    if (letter === '\\' && quote !== "'" && at + 1 < line.length) {
      const next = line[++at] as string
      word = (word ?? '') + (next === '\n' ? '' : next)
    } else if (quote) {
      if (letter === quote) quote = ''
      else word += letter
    } else if (letter === '"' || letter === "'") {
      quote = letter
      word ??= ''
    } else if (/\s/.test(letter)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else word = (word ?? '') + letter
  }
  if (word !== undefined) words.push(word)
  return words
}
