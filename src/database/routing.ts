/** One row of the routing table. A test keeps `docs/database.md` equal to it. */
export interface Rule {
  readonly what: string
  readonly to: 'replica' | 'primary' | 'as its statement'
  readonly why: string
  /** Operations by their name in Prisma. */
  readonly operations?: readonly string[]
  /** Keywords that put a raw statement into this row, as a regular expression. */
  readonly words?: string
}

const row = (to: Rule['to'], why: string, ...operations: string[]): Rule => ({
  what: operations.map((name) => `\`${name}\``).join(', '),
  to,
  why,
  operations,
})
const nested = 'write; nested writes are part of them'

/** Unlisted operations, such as those of a later Prisma version, go to the primary. */
export const rules: readonly Rule[] = [
  row(
    'replica',
    'reads, with all their `include`s',
    'findUnique',
    'findUniqueOrThrow',
    'findFirst',
    'findFirstOrThrow',
    'findMany',
  ),
  row('replica', 'reads', 'count', 'aggregate', 'groupBy'),
  row('primary', nested, 'create', 'createMany', 'createManyAndReturn'),
  row('primary', nested, 'update', 'updateMany', 'updateManyAndReturn', 'upsert'),
  row('primary', 'write', 'delete', 'deleteMany'),
  row('primary', 'for statements that write', '$executeRaw', '$executeRawUnsafe'),
  row('as its statement', 'see below', '$queryRaw', '$queryRawUnsafe'),
  {
    what: '`$transaction([…])`, `$transaction(async (tx) => …)`',
    to: 'primary',
    why: 'a transaction has one server, and its reads belong to its writes',
  },
  {
    what: 'one `SELECT`, or `WITH` … `SELECT`, that is none of the following',
    to: 'replica',
    why: 'reads; if the replica rejects it, for example because a view or an operator writes, the primary runs it',
  },
  {
    what: 'a call of a function that is not known to read only: `nextval`, `pg_advisory_lock`, `set_config`, `txid_current`, `dblink`, your own',
    to: 'primary',
    why: 'may write, lock, or use the state of a session or server; known are PostgreSQL’s own functions without effects, and `readOnlyFunctions`',
  },
  {
    what: '`SELECT … FOR UPDATE`, `FOR NO KEY UPDATE`, `FOR SHARE`, `FOR KEY SHARE`',
    to: 'primary',
    why: 'take row locks',
    words: 'share|update',
  },
  {
    what: '`WITH x AS (INSERT, UPDATE, DELETE or MERGE …) SELECT …`',
    to: 'primary',
    why: 'changes data',
    words: 'insert|update|delete|merge',
  },
  {
    what: '`SELECT … INTO`',
    to: 'primary',
    why: 'creates a table',
    words: 'into',
  },
  {
    what: 'any other statement: `INSERT`, `UPDATE`, `CALL`, `EXPLAIN`, `SHOW`, `VALUES`, …',
    to: 'primary',
    why: 'writes, or may write',
  },
  {
    what: 'several statements in one, and statements that cannot be classified with certainty',
    to: 'primary',
    why: 'always correct there',
  },
]

export type Kind = 'read' | 'write' | 'statement'

const kinds: ReadonlyMap<string, Kind> = new Map(
  rules.flatMap(({ operations = [], to }): [string, Kind][] =>
    operations.map((name) => [name, to === 'replica' ? 'read' : to === 'primary' ? 'write' : 'statement']),
  ),
)

/** Classifies an operation by its name in Prisma. An unknown one may write. */
export const kindOf = (operation: string): Kind => kinds.get(operation) ?? 'write'

/** Keywords that exclude a statement from replicas. Some would be harmless as the name of a column. */
export const primaryWords: RegExp = new RegExp(`^(${rules.flatMap(({ words }) => words ?? []).join('|')})$`)
