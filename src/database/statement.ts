import { builtIn, keywords } from './read-only-functions.ts'
import { primaryWords } from './routing.ts'

const letter = String.raw`A-Za-z_\u0080-\uffff`
const tag = String.raw`(?:[${letter}][\d${letter}]*)?`
/** PostgreSQL's lexical elements: https://www.postgresql.org/docs/current/sql-syntax-lexical.html */
const tokens: RegExp = new RegExp(
  [
    // Other white space, such as U+00A0, is a letter to PostgreSQL.
    String.raw`(?<skipped>[ \t\n\r\f\v]+|--[^\n\r]*`,
    // PostgreSQL's comments nest. Nested ones are not parsed, so such a statement goes to the primary.
    String.raw`\/\*(?:(?!\/\*|\*\/)[\s\S])*\*\/)`,
    String.raw`(?<value>\d+|\b[eE]'(?:[^'\\]|\\[\s\S]|'')*'`,
    // Where `\'` in a plain string ends depends on a setting of the server.
    String.raw`'(?:[^'\\]|\\(?!')|'')*'`,
    String.raw`\$(?<tag>${tag})\$[\s\S]*?\$\k<tag>\$)`,
    '"(?<quoted>(?:[^"]|"")*)"',
    String.raw`(?<word>[${letter}][\w$${letter}]*)`,
    // The start of a quoted string or comment without an end.
    String.raw`(?<open>['"]|\/\*|\$${tag}\$)`,
    String.raw`(?<symbol>::|[\s\S])`,
  ].join('|'),
  'g',
)

/** The previous token, if it ends an operand: no function call follows an operand. */
const operand = 'an operand'
const isOperand = (token: string): boolean => token === operand || token === ')' || token === ']'
/** A name, a type or an alias follows these, and may have a list in parentheses. */
const beforeNames: ReadonlySet<string> = new Set(['as', 'ordinality', 'recursive', 'with', '::'])
/** Words with a list in parentheses after an operand; `like` and `overlaps` are functions too. Other words may be aliases. */
const infixes: ReadonlySet<string> = new Set(['filter', 'ilike', 'join', 'over', 'repeatable'])
const phrases: RegExp =
  /^(?:(?:group|order|partition) by|grouping sets|by (?:cube|rollup)|(?:bit|char|character|nchar) varying|not (?:materialized|ilike)|(?:cross|full|inner|left|natural|outer|right) join|tablesample (?:bernoulli|system))$/

// PostgreSQL folds only these letters in every encoding.
const folded = (word: string): string => word.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
// A dot within quotes does not separate a schema.
const unquoted = (name: string): string => (/[."]/.test(name) ? `"${name}"` : name)

const isBuiltIn = (name: string): boolean => builtIn.has(name.startsWith('pg_catalog.') ? name.slice(11) : name)

/**
 * Whether a raw statement may go to a replica: a single `SELECT` or `WITH` without locks, which calls only functions that
 * are known to read; false in case of doubt.
 *
 * @param readOnly further functions that only read, by `name` or `schema.name`
 */
export function mayReadReplica(sql: string, readOnly: ReadonlySet<string> = new Set()): boolean {
  let first = true
  let ended = false
  let depth = 0
  /** The token before this one and before the name that it ends. */
  let last = ''
  let before = ''
  /** The name that the last token ends, with its schema; and whether it may be a keyword. */
  let name = ''
  let qualified = false
  let bare = false
  /** In the list of a top-level `WITH`, outside of its queries, where names precede `AS`. */
  let listing = false
  /** `DISTINCT ON (…)` is the one place where a call follows a closing parenthesis. */
  let distinctOn = false

  const isCall = (): boolean => {
    if (name === '' || (listing && depth === 0) || beforeNames.has(before)) return false
    if (qualified) return true
    if (bare && (keywords.has(name) || phrases.test(`${before} ${name}`))) return false
    if (bare && infixes.has(name))
      return !isOperand(before) && (!/^[\w\u0080-\uffff]/.test(before) || keywords.has(before))
    return !isOperand(before) || (distinctOn && before === ')')
  }

  for (const { groups = {} } of sql.matchAll(tokens)) {
    const { skipped, value, quoted, word, open, symbol } = groups
    if (skipped !== undefined) continue
    if (open !== undefined) return false
    if (symbol === ';') ended = true
    else if (ended) return false
    if (word !== undefined || quoted !== undefined) {
      const part = word === undefined ? unquoted((quoted ?? '').replaceAll('""', '"')) : folded(word)
      qualified = last === '.'
      if (qualified) name += `.${part}`
      else {
        name = part
        before = last
      }
      bare = word !== undefined && !qualified
      if (bare && primaryWords.test(part)) return false
      if (first && !(bare && (part === 'select' || part === 'with'))) return false
      if (bare && depth === 0 && /^(?:select|table|values)$/.test(part)) listing = false
      if (first && part === 'with') listing = depth === 0
      if (bare && part === 'on' && last === 'distinct') distinctOn = true
      first = false
      last = bare ? part : operand
      continue
    }
    if (symbol === '(') {
      // The query of the `WITH` may be in parentheses.
      if (depth === 0 && last === ')') listing = false
      if (isCall() && !isBuiltIn(name) && !readOnly.has(name)) return false
      depth++
    } else if (symbol === ')') depth--
    if (symbol !== '.') name = ''
    last = value === undefined ? (symbol ?? '') : operand
  }
  return !first
}
