import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { before, test } from 'node:test'
import { builtIn, keywords } from '../../src/database/read-only-functions.ts'
import { type PostgresServer, startPostgres } from '../helpers/postgres.ts'
import { query } from './databases.ts'

interface Script {
  file: URL
  generate(url: string): Promise<string>
}
let server: PostgresServer
before(async () => {
  server = await startPostgres()
})

test('is what the script writes', async (t) => {
  const script = '../../scripts/read-only-functions.js'
  const { file, generate }: Script = await import(script)
  const head = (text: string): string => text.slice(0, text.indexOf('\n'))
  const stored = readFileSync(file, 'utf8')
  const generated = await generate(server.url)
  if (head(generated) !== head(stored)) return t.skip(`${head(stored)} This server is another version.`)
  assert.equal(stored, generated)
})

test('lists functions that write nothing', async () => {
  const names = [...builtIn].map((name) => `'${name}'`).join()
  const volatile = await query(
    server.url,
    `SELECT DISTINCT proname AS name FROM pg_proc
      WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN (${names}) AND provolatile = 'v' ORDER BY 1`,
  )
  const allowed =
    /^(random|clock_timestamp|timeofday|.*uuid.*|array_s.*|pg_(sleep.*|is_.*|last_.*|get_wal.*|.*_size|partition.*))/
  assert.deepEqual(
    volatile.filter(({ name }) => !allowed.test(String(name))),
    [],
  )
  for (const word of ['coalesce', 'exists', 'in', 'values']) assert.ok(keywords.has(word), word)
})
