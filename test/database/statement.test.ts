import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mayReadReplica } from '../../src/database/statement.ts'

const may = [
  'SELECT 1',
  '  select *\nfrom users where id = $1;  ',
  '(SELECT 1) UNION (SELECT 2)',
  '-- DELETE FROM x\nSELECT 1',
  '/* update */ SELECT 1 /* insert; */',
  "SELECT 'DELETE FROM users; --' AS text, E'it\\'s; update'",
  'SELECT $$ insert; $$, $a1$ delete; $a1$',
  'WITH recent AS (SELECT * FROM users) SELECT count(*) FROM recent',
  'SELECT "createdAt", updated_at, deleted, my_insert FROM t',
  'SELECT \'it\'\'s\', "a""b" FROM t WHERE x = $1 AND y = $2',
]
const mayNot = [
  '',
  ';',
  'SELECT * FROM users FOR UPDATE',
  'SELECT * FROM users FOR NO KEY UPDATE',
  'SELECT * FROM users FOR SHARE',
  'SELECT * FROM users FOR KEY SHARE SKIP LOCKED',
  'WITH gone AS (DELETE FROM users RETURNING *) SELECT * FROM gone',
  'WITH new AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM new',
  'WITH m AS (MERGE INTO t USING s ON true WHEN MATCHED THEN DO NOTHING RETURNING *) SELECT 1',
  'SELECT * INTO copy FROM users',
  "SELECT nextval('ids')",
  'SELECT "nextval"(\'ids\')',
  'SELECT pg_advisory_lock(1)',
  'SELECT pg_try_advisory_xact_lock(1)',
  "SELECT set_config('a.b', 'c', false)",
  "SELECT pg_notify('a', 'b')",
  'INSERT INTO t VALUES (1) RETURNING *',
  'UPDATE t SET a = 1 RETURNING *',
  'EXPLAIN ANALYZE DELETE FROM t',
  'CALL work()',
  'VALUES (1)',
  'SHOW server_version',
  'SELECT 1; DELETE FROM t',
  "SELECT 'never closed; DELETE FROM t",
  "SELECT /* /* */ ' */ 1; DELETE FROM t; --'",
  "SELECT $a1$ ' $a1$; DELETE FROM t; --'",
  "SELECT $open$ '; DELETE FROM t; --'",
  'SELECT /* never closed',
]

for (const sql of may) test(`a replica may be asked: ${sql}`, () => assert.equal(mayReadReplica(sql), true))
for (const sql of mayNot) test(`only the primary: ${sql}`, () => assert.equal(mayReadReplica(sql), false))
