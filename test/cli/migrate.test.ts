import assert from 'node:assert/strict'
import { join } from 'node:path'
import { it } from 'node:test'
import migrate from '../../src/cli/commands/migrate.ts'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import '../helpers/cleanup.ts'
import { runCommand } from './commands.ts'

it('fleet migrate rejects what it cannot do before it connects', async (t) => {
  const before = process.env.DATABASE_URL
  t.after(() => {
    if (before === undefined) delete process.env.DATABASE_URL
    else process.env.DATABASE_URL = before
  })
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
