/**
 * Words that a statement may not have if it is to run on a replica. Some are harmless as the name of a column; the
 * primary then answers, which is never wrong.
 */
const unfit: RegExp = new RegExp(
  `^(${[
    'insert|update|delete|merge', // also: FOR UPDATE, and data-changing CTEs
    'into', // SELECT … INTO makes a table
    'share', // FOR SHARE, FOR KEY SHARE
    // Functions that write, or whose effect is bound to the server they run on.
    'nextval|setval|currval|lastval|set_config|pg_notify|txid_current|pg_current_xact_id|lo_[a-z0-9_]+',
    'pg_(try_)?advisory_[a-z0-9_]+',
    'pg_(export_snapshot|current_wal[a-z_]*|create_[a-z_]+|drop_[a-z_]+|terminate_backend|cancel_backend)',
    'dblink[a-z_]*',
  ].join('|')})$`,
)

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
