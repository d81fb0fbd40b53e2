import { unfit } from './routing.ts'

const letter = String.raw`A-Za-z_\u0080-\uffff`
const tag = String.raw`(?:[${letter}][\d${letter}]*)?`
/** PostgreSQL's lexical elements: https://www.postgresql.org/docs/current/sql-syntax-lexical.html */
const tokens: RegExp = new RegExp(
  [
    String.raw`--[^\n]*`,
    // PostgreSQL's comments nest; one that holds another is not worth understanding.
    String.raw`\/\*(?:(?!\/\*|\*\/)[\s\S])*\*\/`,
    String.raw`\b[eE]'(?:[^'\\]|\\[\s\S]|'')*'`,
    "'(?:[^']|'')*'",
    '"(?<quoted>(?:[^"]|"")*)"',
    String.raw`\$(?<tag>${tag})\$[\s\S]*?\$\k<tag>\$`,
    String.raw`(?<word>[${letter}][\w$${letter}]*)`,
    // Begun, but not ended above.
    String.raw`(?<open>['"]|\/\*|\$${tag}\$)`,
    '(?<end>;)',
  ].join('|'),
  'g',
)

/**
 * Whether a raw statement may go to a replica: one `SELECT` or `WITH` that takes no locks and changes nothing. What
 * cannot be told is answered with no. Functions of your own are taken for reading; one that writes is refused by a
 * streaming replica and then run on the primary.
 */
export function mayReadReplica(sql: string): boolean {
  let first = true
  let ended = false
  for (const { groups = {} } of sql.matchAll(tokens)) {
    if (groups.open !== undefined) return false
    if (groups.end !== undefined) ended = true
    const word = (groups.word ?? groups.quoted)?.toLowerCase()
    if (word === undefined) continue
    if (ended || unfit.test(word)) return false
    if (first && word !== 'select' && word !== 'with') return false
    first = false
  }
  return !first
}
