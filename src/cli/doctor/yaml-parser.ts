import { type Document, LineCounter, parseAllDocuments, type YAMLParseError } from 'yaml'

/** How often a text is parsed again, and how many characters that may be. */
const [maxRepairs, maxRepaired] = [32, 1_000_000]

/**
 * The documents of a text, read as leniently as by libyaml and its port to Go, which kubectl and Docker use: the lines of a quoted scalar
 * or of a `[list]` need no indentation. The parser follows the specification here, so such lines are indented until it agrees. No line
 * is added or removed.
 */
export function documentsOf(text: string): { documents: readonly Document[]; lines: LineCounter } {
  const first = parse(text)
  let repaired = text
  let result = first
  for (let left = Math.min(maxRepairs, maxRepaired / text.length); left >= 1; left--) {
    const error = result.documents.flatMap(({ errors }) => errors)[0]
    if (!error) return result
    const start = error && indentable(repaired, error)
    if (start === undefined) return first
    repaired = `${repaired.slice(0, start)}${' '.repeat(indentation)}${repaired.slice(start)}`
    result = parse(repaired)
  }
  return result.documents.some(({ errors }) => errors.length > 0) ? first : result
}

/** More than any line before it has. */
const indentation = 64

function parse(text: string): { documents: readonly Document[]; lines: LineCounter } {
  const lines = new LineCounter()
  // `prettyErrors` and `uniqueKeys` take quadratic time. Warnings are for the program's author.
  const options = { prettyErrors: false, uniqueKeys: false, strict: false, logLevel: 'error' } as const
  const documents = parseAllDocuments(text, { lineCounter: lines, merge: true, ...options })
  return { documents: Array.isArray(documents) ? documents : [], lines }
}

/** Where the line starts that should be indented more; `undefined` for an error of another kind. */
function indentable(text: string, { code, message, pos }: YAMLParseError): number | undefined {
  const isQuote = code === 'MISSING_CHAR' && message.endsWith('quote')
  if (!isQuote && !(code === 'BAD_INDENT' && message.startsWith('Flow '))) return undefined
  const own = text.lastIndexOf('\n', pos[0] - 1) + 1
  if (text.slice(own, pos[0]).trim() === '' && own > 0) return isPadded(text, own) ? undefined : own
  const next = text.indexOf('\n', pos[0]) + 1
  return next > 0 && next < text.length && !isPadded(text, next) ? next : undefined
}

const isPadded = (text: string, start: number): boolean => text.startsWith(' '.repeat(indentation), start)
