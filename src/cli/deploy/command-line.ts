import { usageError } from '../args.ts'

const part = /[^\s'"\\]+|'([^']*)'|"((?:[^"\\]|\\.)*)"|\\([\s\S])/y

/**
 * Splits a command line into words, with the quotes and backslashes of a shell but no other syntax; use `sh -c '…'` for more.
 *
 * @throws FLEET_ERR_USAGE for an unclosed quote or an empty command
 */
export function splitCommand(option: string, text: string): readonly string[] {
  const found: string[] = []
  let word: string | undefined
  for (let at = 0; at < text.length; ) {
    part.lastIndex = at
    const match = part.exec(text)
    if (match) {
      const [all, single, double, escaped] = match
      word = (word ?? '') + (single ?? double?.replace(/\\(["\\$`])/g, '$1') ?? escaped ?? all)
      at = part.lastIndex
      continue
    }
    if (!/\s/.test(text[at] ?? '')) throw usageError(`--${option}: unclosed quote in ${text}`)
    if (word !== undefined) found.push(word)
    word = undefined
    at++
  }
  if (word !== undefined) found.push(word)
  if (found.length === 0) throw usageError(`--${option} needs a command`)
  return found
}
