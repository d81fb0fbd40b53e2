/** One row of the table that decides where an operation goes; `docs/database.md` prints it, and a test compares. */
export interface Rule {
  readonly what: string
  readonly to: 'replica' | 'primary' | 'as its statement'
  readonly why: string
  /** Prisma's names of the operations. */
  readonly operations?: readonly string[]
  /** Words, as a regular expression, that make a raw statement one of this kind. */
  readonly words?: string
  /** Statements of this kind. */
  readonly examples?: readonly string[]
}

/** What is not in it, such as an operation that a later Prisma adds, goes to the primary. */
export const rules: readonly Rule[] = [
  {
    what: '`findUnique`, `findUniqueOrThrow`, `findFirst`, `findFirstOrThrow`, `findMany`',
    to: 'replica',
    why: 'reads, with all their `include`s',
    operations: ['findUnique', 'findUniqueOrThrow', 'findFirst', 'findFirstOrThrow', 'findMany'],
  },
  {
    what: '`count`, `aggregate`, `groupBy`',
    to: 'replica',
    why: 'reads',
    operations: ['count', 'aggregate', 'groupBy'],
  },
  {
    what: '`create`, `createMany`, `createManyAndReturn`',
    to: 'primary',
    why: 'write; nested writes are part of them',
    operations: ['create', 'createMany', 'createManyAndReturn'],
  },
  {
    what: '`update`, `updateMany`, `updateManyAndReturn`, `upsert`',
    to: 'primary',
    why: 'write; nested writes are part of them',
    operations: ['update', 'updateMany', 'updateManyAndReturn', 'upsert'],
  },
  { what: '`delete`, `deleteMany`', to: 'primary', why: 'write', operations: ['delete', 'deleteMany'] },
  {
    what: '`$executeRaw`, `$executeRawUnsafe`',
    to: 'primary',
    why: 'are for statements that write',
    operations: ['$executeRaw', '$executeRawUnsafe'],
  },
  {
    what: '`$queryRaw`, `$queryRawUnsafe`',
    to: 'as its statement',
    why: 'see below',
    operations: ['$queryRaw', '$queryRawUnsafe'],
  },
  {
    what: '`$transaction([…])`, `$transaction(async (tx) => …)`',
    to: 'primary',
    why: 'a transaction has one server, and its reads belong to its writes',
  },
  {
    what: 'one `SELECT`, or `WITH` … `SELECT`, that is none of the following',
    to: 'replica',
    why: 'reads; functions of your own are taken for reading, and one that writes is refused by a replica and run again on the primary',
    examples: [
      'SELECT 1 AS n',
      'WITH recent AS (SELECT * FROM products) SELECT count(*) FROM recent',
      'SELECT writes()',
    ],
  },
  {
    what: '`SELECT … FOR UPDATE`, `FOR NO KEY UPDATE`, `FOR SHARE`, `FOR KEY SHARE`',
    to: 'primary',
    why: 'take row locks',
    words: 'share|update',
    examples: [
      'SELECT id FROM products FOR UPDATE',
      'SELECT id FROM products FOR NO KEY UPDATE',
      'SELECT id FROM products FOR SHARE',
      'SELECT id FROM products FOR KEY SHARE SKIP LOCKED',
    ],
  },
  {
    what: '`WITH x AS (INSERT, UPDATE, DELETE or MERGE …) SELECT …`',
    to: 'primary',
    why: 'changes data',
    words: 'insert|update|delete|merge',
    examples: [
      'WITH x AS (UPDATE products SET stock = 3 RETURNING *) SELECT count(*) FROM x',
      'WITH x AS (DELETE FROM products WHERE false RETURNING *) SELECT count(*) FROM x',
      'WITH x AS (INSERT INTO notes VALUES (1) RETURNING *) SELECT count(*) FROM x',
    ],
  },
  {
    what: '`SELECT … INTO`',
    to: 'primary',
    why: 'makes a table',
    words: 'into',
    examples: ['SELECT * INTO TEMP copied FROM products'],
  },
  {
    what: '`nextval`, `setval`, `currval`, `lastval`',
    to: 'primary',
    why: 'change a sequence, or speak of one that was changed',
    words: 'nextval|setval|currval|lastval',
    examples: ["SELECT nextval('ids')", "SELECT setval('ids', 7)"],
  },
  {
    what: '`pg_advisory_lock` and its like',
    to: 'primary',
    why: 'a lock on a replica excludes nobody',
    words: 'pg_(try_)?advisory_[a-z0-9_]+',
    examples: ['SELECT pg_try_advisory_xact_lock(1)', 'SELECT pg_advisory_unlock_all()::text'],
  },
  {
    what: '`set_config`, `pg_notify`, `txid_current`, `pg_current_xact_id`',
    to: 'primary',
    why: 'act beyond the statement',
    words: 'set_config|pg_notify|txid_current|pg_current_xact_id',
    examples: ["SELECT set_config('a.b', 'c', true)", "SELECT pg_notify('a', 'b')::text", 'SELECT txid_current()'],
  },
  {
    what: '`lo_…`, `dblink…`',
    to: 'primary',
    why: 'large objects are written through them; another server may be',
    words: 'lo_[a-z0-9_]+|dblink[a-z_]*',
    examples: ['SELECT lo_creat(-1)::int'],
  },
  {
    what: '`pg_current_wal…`, `pg_export_snapshot`, `pg_create_…`, `pg_drop_…`, `pg_cancel_backend`, `pg_terminate_backend`',
    to: 'primary',
    why: 'mean the server they run on',
    words: 'pg_(export_snapshot|current_wal[a-z_]*|create_[a-z_]+|drop_[a-z_]+|terminate_backend|cancel_backend)',
    examples: ['SELECT pg_current_wal_lsn()::text'],
  },
  {
    what: 'any other statement: `INSERT`, `UPDATE`, `CALL`, `EXPLAIN`, `SHOW`, `VALUES`, …',
    to: 'primary',
    why: 'writes, or may',
    examples: ['UPDATE products SET stock = 4 RETURNING id', 'SHOW server_version', 'VALUES (1)', 'EXPLAIN SELECT 1'],
  },
  {
    what: 'several statements in one, and what cannot be told apart with certainty',
    to: 'primary',
    why: 'is never wrong there',
    examples: ['SELECT /* /* nested */ */ 1 AS n', 'SELECT 1 AS "update"'],
  },
]

export type Kind = 'read' | 'write' | 'statement'

const kinds: ReadonlyMap<string, Kind> = new Map(
  rules.flatMap(({ operations = [], to }): [string, Kind][] =>
    operations.map((name) => [name, to === 'replica' ? 'read' : to === 'primary' ? 'write' : 'statement']),
  ),
)

/** What an operation does, by Prisma's name for it; one that is not known may write. */
export const kindOf = (operation: string): Kind => kinds.get(operation) ?? 'write'

/** A word that a statement may not have if it is to run on a replica; some are harmless as the name of a column. */
export const unfit: RegExp = new RegExp(`^(${rules.flatMap(({ words }) => words ?? []).join('|')})$`)
