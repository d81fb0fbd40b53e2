import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { readEnv } from '../../../src/base/env.ts'
import { type DependencyOptions, providePostgres } from '../../../src/cli/up/dependencies.ts'
import { startListening } from '../../edge/listening.ts'
import '../../helpers/cleanup.ts'
import { createServer } from 'node:net'

const { execArgv } = process

/** Stands in for `fleet migrate`: prints this text, says what it was asked on stderr, and exits with the code. */
function standInForMigrate(t: TestContext, text: string, code = 0): void {
  const source = `process.stdout.write(${JSON.stringify(text)});console.error(process.argv.slice(2).join(' '));process.exit(${code})`
  process.execArgv = [...execArgv, '--import', `data:text/javascript,${encodeURIComponent(source)}`]
  t.after(() => {
    process.execArgv = execArgv
  })
}

async function provide(more: Partial<DependencyOptions> = {}, env: Record<string, string> = {}) {
  const [notes, events]: [string[], string[]] = [[], []]
  const port = await startListening(createServer((socket) => socket.on('error', () => {})))
  const options: DependencyOptions = {
    ...{ needs: { migrations: 'prisma/migrations' }, include: new Set(), exclude: new Set(), install: false },
    env: readEnv({ DATABASE_URL: `postgres://127.0.0.1:${port}/x`, ...env }),
    ...{
      migrate: true,
      seed: false,
      onEvent: (line) => void events.push(line),
      onNote: (text) => void notes.push(text),
    },
    ...more,
  }
  const result = await providePostgres(options).then(
    ({ description }) => description,
    ({ message }: Error) => message,
  )
  return { result, notes, events }
}

describe('the migrations of fleet up', () => {
  it('are applied, with the first users only for the reference application in development', async (t) => {
    // It fails, so that the error shows how it was called.
    standInForMigrate(t, '', 1)
    const called = async (...args: Parameters<typeof provide>): Promise<string | undefined> =>
      /the database: (.*)$/.exec((await provide(...args)).result)?.[1]
    const plain = 'migrate --dir prisma/migrations'
    assert.equal(await called(), plain)
    assert.equal(await called({ seed: true }), `${plain} --seed`)
    assert.equal(await called({ seed: true }, { NODE_ENV: 'production' }), plain)
    assert.equal(await called({ migrate: false, seed: true }), `${plain} --dry-run`)
  })

  it('are counted in a database of others', async (t) => {
    for (const [text, notes] of [
      ['up to date, 3 applied before\n', []],
      ['would apply 1_a\n1 to apply', ['the database of DATABASE_URL lacks 1 migration; `--migrate` applies them']],
      [
        'would apply 1_a\nwould apply 2_b\n2 to apply',
        ['the database of DATABASE_URL lacks 2 migrations; `--migrate` applies them'],
      ],
    ] as const) {
      standInForMigrate(t, text)
      const found = await provide({ migrate: false })
      assert.deepEqual(found, { result: 'PostgreSQL named by DATABASE_URL', notes, events: [] })
    }
  })

  it('are named in the description, and are none without the folder', async (t) => {
    standInForMigrate(t, '')
    assert.deepEqual(await provide(), {
      result: 'PostgreSQL named by DATABASE_URL, migrated by prisma/migrations',
      notes: [],
      events: ['migrating the database'],
    })
    for (const migrate of [true, false])
      assert.deepEqual(await provide({ needs: {}, migrate }), {
        result: 'PostgreSQL named by DATABASE_URL',
        notes: [],
        events: [],
      })
  })
})
