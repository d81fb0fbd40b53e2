/** One row of the routing table. A test keeps `docs/database.md` equal to it. */
export interface Rule {
  readonly what: string
  readonly to: 'replica' | 'primary' | 'as its statement'
  readonly why: string
  /** Operations by their name in Prisma. */
  readonly operations?: readonly string[]
  /** Words that put a raw statement into this row, as a regular expression. */
  readonly words?: string
  /** Example statements. */
  readonly examples?: readonly string[]
}

/** Unlisted operations, such as those of a later Prisma version, go to the primary. */
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
    why: 'for statements that write',
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
    why: 'reads; user-defined functions are assumed to read, and if a replica rejects one that writes, the primary runs it',
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
    why: 'creates a table',
    words: 'into',
    examples: ['SELECT * INTO TEMP copied FROM products'],
  },
  {
    what: '`nextval`, `setval`, `currval`, `lastval`',
    to: 'primary',
    why: 'change a sequence, or return the state of a changed one',
    words: 'nextval|setval|currval|lastval',
    examples: ["SELECT nextval('ids')", "SELECT setval('ids', 7)"],
  },
  {
    what: '`pg_advisory_lock` and related functions',
    to: 'primary',
    why: 'a lock on a replica has no effect elsewhere',
    words: 'pg_(try_)?advisory_[a-z0-9_]+',
    examples: ['SELECT pg_try_advisory_xact_lock(1)', 'SELECT pg_advisory_unlock_all()::text'],
  },
  {
    what: '`set_config`, `pg_notify`, `txid_current`, `pg_current_xact_id`',
    to: 'primary',
    why: 'have effects beyond the statement',
    words: 'set_config|pg_notify|txid_current|pg_current_xact_id',
    examples: ["SELECT set_config('a.b', 'c', true)", "SELECT pg_notify('a', 'b')::text", 'SELECT txid_current()'],
  },
  {
    what: '`lo_…`, `dblink…`',
    to: 'primary',
    why: 'may write large objects, or to another server',
    words: 'lo_[a-z0-9_]+|dblink[a-z_]*',
    examples: ['SELECT lo_creat(-1)::int'],
  },
  {
    what: '`pg_current_wal…`, `pg_export_snapshot`, `pg_create_…`, `pg_drop_…`, `pg_cancel_backend`, `pg_terminate_backend`',
    to: 'primary',
    why: 'refer to the server they run on',
    words: 'pg_(export_snapshot|current_wal[a-z_]*|create_[a-z_]+|drop_[a-z_]+|terminate_backend|cancel_backend)',
    examples: ['SELECT pg_current_wal_lsn()::text'],
  },
  {
    what: 'any other statement: `INSERT`, `UPDATE`, `CALL`, `EXPLAIN`, `SHOW`, `VALUES`, …',
    to: 'primary',
    why: 'writes, or may write',
    examples: ['UPDATE products SET stock = 4 RETURNING id', 'SHOW server_version', 'VALUES (1)', 'EXPLAIN SELECT 1'],
  },
  {
    what: 'several statements in one, and statements that cannot be classified with certainty',
    to: 'primary',
    why: 'always correct there',
    examples: ['SELECT /* /* nested */ */ 1 AS n', 'SELECT 1 AS "update"'],
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

/** Words that exclude a statement from replicas. Some would be harmless as a column name. */
export const primaryWords: RegExp = new RegExp(`^(${rules.flatMap(({ words }) => words ?? []).join('|')})$`)
