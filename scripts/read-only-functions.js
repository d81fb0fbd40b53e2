// Writes src/database/read-only-functions.ts: PostgreSQL's own functions that a replica may run. Run it with a newer
// PostgreSQL installed, and read the difference:
//
//   node scripts/read-only-functions.js
import { writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import pg from 'pg'
import { startPostgres } from '../src/cli/up/postgres.ts'

export const file = new URL('../src/database/read-only-functions.ts', import.meta.url)

/** Immutable or stable, but they return the state of a session, of a transaction or of the server they run on. */
const excluded = [
  'txid_.*|pg_(current|snapshot|visible_in_snapshot|stat_get|cursor|prepared|listening|my_temp|is_other_temp).*',
  'pg_(backend_pid|trigger_depth|walfile_name.*|filenode_relation|relation_file.*|get_publication.*|replication_.*)',
  'pg_(get_replication_slots|event_trigger_.*|conf_load_time|mcv_list_items|options_to_table|show_all_settings)',
  '.*_validator|currtid.*|binary_upgrade_.*',
].join('|')

/** Volatile because the result changes, without an effect. */
const volatile = [
  'array_sample array_shuffle clock_timestamp gen_random_uuid random random_normal timeofday uuidv4 uuidv7',
  'pg_sleep pg_sleep_for pg_sleep_until',
  // The state of a replica, which only a replica has.
  'pg_is_in_recovery pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp',
  'pg_is_wal_replay_paused pg_get_wal_replay_pause_state',
  'pg_database_size pg_indexes_size pg_relation_size pg_table_size pg_tablespace_size pg_total_relation_size',
  'pg_partition_ancestors pg_partition_tree',
]
  .join(' ')
  .split(' ')

/** Immutable or stable functions of PostgreSQL 16 to 18, for servers that are newer than the one that was read. */
const newer = [
  'any_value array_reverse array_sort casefold crc32 crc32c date_add date_subtract erf erfc gamma icu_unicode_version',
  'json_agg_strict json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict jsonb_agg_strict',
  'jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict lgamma pg_basetype',
  'pg_input_error_info pg_input_is_valid to_bin to_oct unicode_assigned unicode_version uuid_extract_timestamp',
  'uuid_extract_version xmltext',
]
  .join(' ')
  .split(' ')

/** Keywords of PostgreSQL 16 to 18 that no function can have as its name. */
const newerWords = [
  'json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize',
  'json_table json_value merge_action system_user',
]
  .join(' ')
  .split(' ')

// Without functions that only operators, aggregates, casts to text and indexes call.
const functions = `
  SELECT proname AS name FROM pg_proc p
    LEFT JOIN pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_proc'::regclass
   WHERE pronamespace = 'pg_catalog'::regnamespace AND proname !~ '^(${excluded})$'
   GROUP BY 1
  HAVING bool_and(provolatile IN ('i', 's')) AND bool_or(
    NOT 'internal'::regtype = ANY (proargtypes)
    AND prorettype NOT IN ('internal'::regtype, 'cstring'::regtype, 'trigger'::regtype, 'event_trigger'::regtype)
    AND coalesce(description, '') !~ '^(implementation of|I/O|internal|less-equal)'
    AND NOT EXISTS (SELECT FROM pg_aggregate
      WHERE p.oid IN (aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn, aggminvtransfn, aggmfinalfn)))`
const words = "SELECT word AS name FROM pg_get_keywords() WHERE catcode IN ('R', 'C')"

/** @param {string} url of a PostgreSQL server */
export async function generate(url) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const names = async (sql, ...more) =>
      wrap([...new Set([...(await client.query(sql)).rows.map(({ name }) => name), ...more])].sort())
    const version = (await client.query("SELECT current_setting('server_version_num')::int / 10000 AS n")).rows[0].n
    return `// Written by scripts/read-only-functions.js from the catalog of PostgreSQL ${version}.
const list = (names: string): ReadonlySet<string> => new Set(names.trim().split(/\\s+/))

/** Functions in \`pg_catalog\` that have no effect in any variant, and need neither the primary nor its session. */
export const builtIn: ReadonlySet<string> = list(\`
${await names(functions, ...volatile, ...newer)}
\`)

/** Keywords that are not the name of a function when they are not quoted. */
export const keywords: ReadonlySet<string> = list(\`
${await names(words, ...newerWords)}
\`)
`
  } finally {
    await client.end()
  }
}

function wrap(names) {
  const lines = ['']
  for (const name of names) {
    const last = lines.at(-1)
    if (last.length + name.length > 117) lines.push(`  ${name}`)
    else lines[lines.length - 1] = last === '' ? `  ${name}` : `${last} ${name}`
  }
  return lines.join('\n')
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const server = await startPostgres({ durable: false })
  try {
    writeFileSync(file, await generate(server.url))
  } finally {
    await server.stop()
  }
}
