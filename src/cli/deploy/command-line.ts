import { FleetError } from '../../base/errors.ts'

const part = /[^\s'"\\]+|'([^']*)'|"((?:[^"\\]|\\.)*)"|\\([\s\S])/y

/**
 * A command line as words: quotes and backslashes as in a shell, and nothing else of it. Who needs a shell says
 * `sh -c '…'`.
 *
 * @throws FLEET_ERR_USAGE when a quote is not closed, or there is no word
 */
export function words(option: string, text: string): readonly string[] {
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
    if (!/\s/.test(text[at] ?? ''))
      throw new FleetError('FLEET_ERR_USAGE', `--${option}: a quote is not closed in ${text}`)
    if (word !== undefined) found.push(word)
    word = undefined
    at++
  }
  if (word !== undefined) found.push(word)
  if (found.length === 0) throw new FleetError('FLEET_ERR_USAGE', `--${option} needs a command`)
  return found
}
