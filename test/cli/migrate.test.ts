import assert from 'node:assert/strict'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { it, type TestContext } from 'node:test'
import pg from 'pg'
import migrate from '../../src/cli/commands/migrate.ts'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import '../helpers/cleanup.ts'
import { runCommand } from './commands.ts'

/** Restores DATABASE_URL at the end of the test. */
function restoreUrl(t: TestContext): void {
  const before = process.env.DATABASE_URL
  t.after(() => {
    if (before === undefined) delete process.env.DATABASE_URL
    else process.env.DATABASE_URL = before
  })
}

it('fleet migrate rejects what it cannot do before it connects', async (t) => {
  restoreUrl(t)
  delete process.env.DATABASE_URL
  const without = await runCommand(migrate)
  assert.deepEqual([without.code, without.stdout], [2, ''])
  assert.match(without.stderr, /set DATABASE_URL, e\.g\. postgresql:\/\/user:password@host:5432\/database/)
  process.env.DATABASE_URL = 'postgresql://127.0.0.1:1/x'
  const folder = temporaryFolder('migrations')
  for (const [args, message] of [
    [['extra'], /`fleet migrate` takes options only/],
    [['--lock-timeout', '0'], /--lock-timeout must be a whole number from 1 to 3600, not "0"/],
    [['--lock-timeout', '3601'], /--lock-timeout must be/],
    [
      ['--seed', '--dir', join(folder, 'migrations')],
      new RegExp(`--seed.* requires seed\\.ts, seed\\.js or seed\\.mjs in ${folder}$`, 'm'),
    ],
  ] as const) {
    const { code, stdout, stderr } = await runCommand(migrate, ...args)
    assert.deepEqual([code, stdout], [2, ''], stderr)
    assert.match(stderr, message)
  }
})

it('fleet migrate runs the file for the seed after the migrations, and not in a dry run', async (t) => {
  restoreUrl(t)
  process.env.DATABASE_URL = 'postgresql://127.0.0.1:1/x'
  for (const name of ['connect', 'end'] as const) t.mock.method(pg.Client.prototype, name, async () => {})
  t.mock.method(pg.Client.prototype, 'query', async () => ({ rows: [{ exists: false }] }))
  const folder = temporaryFolder('migrations')
  const seed = join(folder, 'seed.mjs')
  mkdirSync(join(folder, 'migrations'))
  const mark = join(folder, 'mark')
  writeFileSync(seed, `import { writeFileSync } from 'node:fs'\nwriteFileSync(${JSON.stringify(mark)}, '')`)
  const seeded = `up to date, 0 applied before\nseeded by ${relative('', seed)}\n`
  for (const [more, stdout, expected] of [
    [['--dry-run'], 'up to date, 0 applied before\n', false],
    [[], seeded, true],
  ] as const) {
    const said = await runCommand(migrate, '--seed', '--dir', join(folder, 'migrations'), ...more)
    assert.deepEqual([said.code, said.stdout, existsSync(mark)], [0, stdout, expected], said.stderr)
  }
})
