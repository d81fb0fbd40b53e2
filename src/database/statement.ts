import { primaryWords } from './routing.ts'

const letter = String.raw`A-Za-z_\u0080-\uffff`
const tag = String.raw`(?:[${letter}][\d${letter}]*)?`
/** PostgreSQL's lexical elements: https://www.postgresql.org/docs/current/sql-syntax-lexical.html */
const tokens: RegExp = new RegExp(
  [
    String.raw`--[^\n]*`,
    // PostgreSQL's comments nest. Nested ones are not parsed, so such a statement goes to the primary.
    String.raw`\/\*(?:(?!\/\*|\*\/)[\s\S])*\*\/`,
    String.raw`\b[eE]'(?:[^'\\]|\\[\s\S]|'')*'`,
    "'(?:[^']|'')*'",
    '"(?<quoted>(?:[^"]|"")*)"',
    String.raw`\$(?<tag>${tag})\$[\s\S]*?\$\k<tag>\$`,
    String.raw`(?<word>[${letter}][\w$${letter}]*)`,
    // The start of a quoted string or comment without an end.
    String.raw`(?<open>['"]|\/\*|\$${tag}\$)`,
    '(?<end>;)',
  ].join('|'),
  'g',
)

/**
 * Whether a raw statement may go to a replica: a single `SELECT` or `WITH` without locks and side effects; false in case of
 * doubt. User-defined functions are assumed to read: a streaming replica rejects one that writes, and the primary runs it.
 */
export function mayReadReplica(sql: string): boolean {
  let first = true
  let ended = false
  for (const { groups = {} } of sql.matchAll(tokens)) {
    if (groups.open !== undefined) return false
    if (groups.end !== undefined) ended = true
    const word = (groups.word ?? groups.quoted)?.toLowerCase()
    if (word === undefined) continue
    if (ended || primaryWords.test(word)) return false
    if (first && word !== 'select' && word !== 'with') return false
    first = false
  }
  return !first
}
