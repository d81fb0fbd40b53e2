import assert from 'node:assert/strict'
import { test } from 'node:test'
import { builtIn } from '../../src/database/read-only-functions.ts'
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
  'SELECT 1 AS "update", t.share FROM t;',
  'SELECT lower(name), pg_catalog.upper(name), "btrim" (name), "pg_catalog" . "abs"(1), Coalesce(a, b) FROM t',
  "SELECT 'nextval(1)', $$ locks() $$, E'\\' locks()' -- locks()\n, 1 /* locks() */",
  'SELECT now(), random(), gen_random_uuid(), pg_is_in_recovery(), to_tsvector(body) FROM t',
  'SELECT a FROM t WHERE a IN (1, 2) AND NOT EXISTS (SELECT 1) AND b = ANY ($1) AND (c) NOT ILIKE (d) AND name LIKE (e)',
  'SELECT a::numeric(10, 2), b::character varying(20), CAST(c AS varchar(3)), d::shop.code(3), x::timestamp(3) FROM t',
  "SELECT count(*) FILTER (WHERE a > 1) OVER (PARTITION BY (b) ORDER BY (c)), extract(epoch FROM now()), trim(both ' ' from d)",
  'SELECT sum(a) FROM t GROUP BY GROUPING SETS ((a), ()), b ORDER BY (1)',
  'SELECT sum(a) FROM t GROUP BY ROLLUP (a, b)',
  'SELECT * FROM users u JOIN (SELECT 1) AS x(id) USING (id) LEFT JOIN (SELECT 2) y (id) ON (true) CROSS JOIN LATERAL (SELECT 3) z',
  'SELECT * FROM unnest($1::int[]) WITH ORDINALITY AS t(id, place), generate_series(1, 2) g(n), (VALUES (1)) "v"(n)',
  'WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL (SELECT n + 1 FROM a)), b (m) AS NOT MATERIALIZED (SELECT 1) SELECT * FROM a, b',
  'SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t TABLESAMPLE system (10) REPEATABLE (1)',
  'SELECT DISTINCT ON (a) a, count(*) OVER (ORDER BY b) FROM t',
  'SELECT DISTINCT ON (a) a, count(*) FILTER (WHERE b) FROM t TABLESAMPLE system (10) REPEATABLE (1)',
  'SELECT DISTINCT a FROM (SELECT 1) y (a)',
  'SELECT * FROM "users" u(id), shop.users v (id), unnest($1::int[]) WITH ORDINALITY w (id, place)',
  'SELECT * FROM (WITH RECURSIVE a(n) AS (SELECT 1) SELECT * FROM a) x, (WITH b (m) AS (SELECT 1) SELECT * FROM b) y',
  "SELECT a ILIKE (b), 'a' ILIKE (b), (a, b) OVERLAPS (c, d) FROM t",
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
  'SELECT locks()',
  'SELECT locks /* a comment */ -- another\n ()',
  'SELECT "Lower"(name)',
  'SELECT "pg_catalog.lower"(name)',
  'SELECT shop.lower(name)',
  'SELECT shop.pg_catalog.lower(name)',
  'SELECT U&"nextv\\0061l"(1)',
  'SELECT lower\u00a0(name)',
  'SELECT \u00a0lower(name)',
  'SELECT ran\u212a()',
  'SELECT "coalesce"(a, b)',
  'SELECT * FROM t JOIN locks() ON true',
  'SELECT * FROM t LEFT JOIN LATERAL locks() x(a) ON true',
  'SELECT * FROM ROWS FROM (locks(), abs(1))',
  'SELECT 1 WHERE a LIKE locks()',
  'SELECT 1 WHERE 1=1and locks()',
  'SELECT DISTINCT ON (a) locks()',
  'SELECT DISTINCT ON (a) "locks"()',
  'SELECT 1 ORDER BY locks()',
  '(SELECT 1) ORDER BY locks()',
  'SELECT (a) shop.locks()',
  'SELECT join(1), over(2)',
  'SELECT abs(locks())',
  'SELECT a OPERATOR(shop.+) b FROM t',
  'SELECT a AT TIME ZONE locks() FROM t',
  'WITH a AS (SELECT locks()) SELECT 1',
  'WITH a AS (SELECT 1) (SELECT 1) ORDER BY locks()',
  'WITH a AS (SELECT 1) TABLE a ORDER BY locks()',
  'WITH a AS (SELECT 1) VALUES (1) ORDER BY locks()',
  'SELECT 1 -- a comment that ends here\r, locks()',
  "SELECT '\\', locks(), '",
  "SELECT '\\' || locks() || '\\'",
  'SELECT pg_promote()',
  'SELECT pg_wal_replay_pause()',
  'SELECT pg_logical_emit_message(true, $1, $2)',
  'SELECT pg_switch_wal()',
  "SELECT pg_create_logical_replication_slot('x', 'test_decoding')",
  'SELECT pg_stat_reset()',
  'SELECT txid_current_if_assigned()',
  'SELECT pg_backend_pid()',
  "SELECT * FROM dblink('', 'SELECT 1') AS t(a int)",
  "SELECT query_to_xml('DELETE FROM t', true, true, '')",
  'SELECT lo_creat(-1)',
  'COPY t TO STDOUT',
  'TABLE t',
  'SELECT 1; SELECT 2',
  'SELECT 1; (SELECT 2)',
]

for (const sql of may) test(`a replica may be asked: ${sql}`, () => assert.equal(mayReadReplica(sql), true))
for (const sql of mayNot) test(`only the primary: ${sql}`, () => assert.equal(mayReadReplica(sql), false))

test('calls functions that are declared to be read only', () => {
  const readOnly = new Set(['similarity', 'shop.price', 'St_Distance'])
  for (const call of [
    'similarity(a, b)',
    'SIMILARITY (a, b)',
    '"similarity"(a, b)',
    'shop.price(a)',
    '"St_Distance"(a)',
  ])
    assert.equal(mayReadReplica(`SELECT ${call} FROM t`, readOnly), true, call)
  for (const call of ['other.similarity(a, b)', 'price(a)', 'St_Distance(a)', 'similarity(a, locks())'])
    assert.equal(mayReadReplica(`SELECT ${call} FROM t`, readOnly), false, call)
})

test('knows no function with an effect', () => {
  const effects =
    /^(nextval|setval|currval|lastval|set_config|setseed|dblink.*|lo_.*|.*advisory.*|txid_.*|pg_(notify|current_.*|create_.*|drop_.*|stat_.*|switch_.*|logical_.*|replication_.*|promote|wal_replay_.*|reload.*|rotate.*|cancel.*|terminate.*|export.*|read.*|ls_.*|backup.*|import.*|log_.*))$/
  assert.deepEqual(
    [...builtIn].filter((name) => effects.test(name)),
    [],
  )
})
