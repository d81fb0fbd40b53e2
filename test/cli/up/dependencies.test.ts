import '../../helpers/cleanup.ts'
import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import net, { createServer, type NetConnectOpts } from 'node:net'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { readEnv } from '../../../src/base/env.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { DataFolder } from '../../../src/cli/up/data.ts'
import { type DependencyOptions, providePostgres, provideRedis } from '../../../src/cli/up/dependencies.ts'
import { startPostgres } from '../../../src/cli/up/postgres.ts'
import { startRedis } from '../../../src/cli/up/redis.ts'
import { startListening } from '../../edge/listening.ts'
import { freePort } from '../../helpers/free-port.ts'

function options(env: Record<string, string>, more: Partial<DependencyOptions> = {}) {
  const notes: string[] = []
  const given: DependencyOptions = {
    ...{ env: readEnv(env), needs: {}, include: new Set(), exclude: new Set() },
    ...{ migrate: false, seed: false, install: false },
    ...{ onEvent: () => {}, onNote: (text: string) => void notes.push(text) },
    ...more,
  }
  return { ...given, notes }
}

/** A folder that every user can read, with these programs for the shell. */
function programs(scripts: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder('programs')
  chmodSync(folder, 0o755)
  for (const [name, script] of Object.entries(scripts))
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  return folder
}

/** Makes these programs the only ones on PATH. */
function onPath(t: TestContext, scripts: Readonly<Record<string, string>>): void {
  const { PATH } = process.env
  process.env.PATH = programs(scripts)
  t.after(() => {
    process.env.PATH = PATH
  })
}

function dataFolder(): DataFolder {
  const folder = temporaryFolder('data')
  chmodSync(folder, 0o755)
  return new DataFolder(join(folder, 'kept'))
}

const listen = (): Promise<number> => startListening(createServer((socket) => socket.on('error', () => {})))

describe('the servers of fleet up', () => {
  it('keep their files in the folder of --data, wait for the disk, and listen on 127.0.0.1 only', async (t) => {
    const shows = 'echo "$@"; exit 9'
    onPath(t, { 'redis-server': shows, postgres: shows })
    const data = dataFolder()
    const { path } = data
    mkdirSync(join(data.folder('postgres'), 'data'))
    const given = options({}, { data, include: new Set(['postgres']) })
    const message = async (start: Promise<unknown>): Promise<string> =>
      `${await start.then(
        () => assert.fail('it started'),
        (error: Error) => error.message,
      )} `
    const redis = await message(provideRedis(given))
    for (const [name, value] of [
      ['--bind', '127.0.0.1'],
      ['--dir', `${path}/redis`],
      ['--pidfile', `${path}/redis/redis.pid`],
      ['--appendonly', 'yes'],
    ])
      assert.ok(redis.includes(` ${name} ${value} `), `${name}: ${redis}`)
    const postgres = await message(providePostgres(given))
    for (const argument of [
      `-D ${path}/postgres/data`,
      '-c listen_addresses=127.0.0.1',
      '-c unix_socket_directories=',
      '-c fsync=on',
    ])
      assert.ok(postgres.includes(`${argument} `), `${argument}: ${postgres}`)
  })

  it('do not count as up while they load their files', async () => {
    for (const [loading, ready, start] of [
      ['-LOADING Redis is loading', '+PONG', startRedis],
      ['E starting up', 'R', startPostgres],
    ] as const) {
      let probes = 0
      const server = createServer((socket) =>
        socket.on('error', () => {}).once('data', () => socket.end(++probes < 3 ? loading : ready)),
      )
      const port = await startListening(server)
      const program = join(programs({ server: "trap 'exit 7' INT\n/bin/sleep 600" }), 'server')
      const data = dataFolder()
      const folder = data.folder('server')
      mkdirSync(join(folder, 'data'))
      const files = start === startRedis ? { data: folder } : { data: { folder, password: 'x' } }
      const started = await start({ program, port, ...(files as object) })
      assert.equal(probes, 3)
      await started.stop()
      // The fast shutdown of PostgreSQL does not wait for sessions.
      const ended = start === startRedis ? { code: null, signal: 'SIGTERM' } : { code: 7, signal: null }
      assert.deepEqual(started.child.ended, ended)
    }
  })

  it('leave no part of a database behind if its creation fails, and keep the password private meanwhile', async () => {
    const program = join(programs({ postgres: 'exit 1', initdb: '/bin/mkdir "$2"; echo no space; exit 1' }), 'postgres')
    const folder = dataFolder().folder('postgres')
    await assert.rejects(startPostgres({ program, data: { folder, password: 'x' } }), { message: /no space$/ })
    assert.equal(existsSync(join(folder, 'data')), false)
    assert.equal(statSync(join(folder, 'password')).mode & 0o777, 0o600)
  })

  it('replace the part of a database that an interrupted start has left behind', async () => {
    const initdb = '/bin/mkdir "$2" && echo 17 > "$2/PG_VERSION"'
    const program = join(programs({ postgres: 'exit 1', initdb }), 'postgres')
    const folder = dataFolder().folder('postgres')
    mkdirSync(join(folder, 'data.incomplete/base'), { recursive: true })
    const failed = startPostgres({ program, data: { folder, password: 'x' } })
    await assert.rejects(failed, { message: /PostgreSQL ended with 1/ })
    assert.deepEqual(readdirSync(join(folder, 'data')), ['PG_VERSION'])
  })
})

describe('the servers that the environment names', () => {
  it('are expected on their usual ports, and on every address', async (t) => {
    const open = await listen()
    const { connect } = net
    const ports: unknown[] = []
    const mock = t.mock.method(net, 'connect', (address: NetConnectOpts) => {
      ports.push((address as { port: number }).port)
      return connect({ host: '127.0.0.1', port: open })
    })
    syncBuiltinESMExports()
    await provideRedis(options({ REDIS_URL: 'redis://127.0.0.1' }))
    await providePostgres(options({ DATABASE_URL: 'postgres://127.0.0.1,127.0.0.1:7/x' }))
    mock.mock.restore()
    syncBuiltinESMExports()
    assert.deepEqual(ports, [6_379, 5_432, 7])
    const second = await freePort()
    const both = options({ DATABASE_URL: `postgres://127.0.0.1:${open},127.0.0.1:${second}/x` })
    await assert.rejects(providePostgres(both), {
      message: new RegExp(`no server listens at 127\\.0\\.0\\.1:${second} `),
    })
  })
})

describe('the migrations of fleet up', () => {
  /** A program in place of Node that records its arguments. */
  async function migrations(t: TestContext, script = ':') {
    const folder = programs({ node: `echo "$@" >> "$0.given"; ${script}` })
    const { execPath } = process
    process.execPath = join(folder, 'node')
    t.after(() => {
      process.execPath = execPath
    })
    const url = { DATABASE_URL: `postgres://127.0.0.1:${await listen()}/x` }
    const provide = async (env: Record<string, string>, more: Partial<DependencyOptions>) => {
      const given = options({ ...url, ...env }, { needs: { migrations: '/app/prisma/migrations' }, ...more })
      const { description } = await providePostgres(given)
      const args = readFileSync(join(folder, 'node.given'), 'utf8').trim().split('\n').at(-1) ?? ''
      return { description, args: args.replace(/^.* migrate /, 'migrate '), notes: given.notes }
    }
    return provide
  }
  const apply = 'migrate --dir /app/prisma/migrations'

  it('are compared only with the database of DATABASE_URL, unless they were asked for', async (t) => {
    const provide = await migrations(t, 'echo would apply 1_init; echo would apply 2_more')
    const compared = await provide({}, {})
    assert.deepEqual([compared.args, compared.description], [`${apply} --dry-run`, 'PostgreSQL named by DATABASE_URL'])
    assert.match(compared.notes.join(), /lacks 2 migrations; `--migrate` applies them$/)
    const applied = await provide({}, { migrate: true })
    assert.deepEqual([applied.args, applied.notes], [apply, []])
    assert.match(applied.description, /^PostgreSQL named by DATABASE_URL, migrated by .*app\/prisma\/migrations$/)
  })

  it('create the users with known passwords of the reference application in development only', async (t) => {
    const provide = await migrations(t)
    assert.equal((await provide({}, { migrate: true, seed: true })).args, `${apply} --seed`)
    assert.equal((await provide({ NODE_ENV: 'production' }, { migrate: true, seed: true })).args, apply)
    assert.equal((await provide({}, { migrate: true, seed: false })).args, apply)
  })

  it('end the start if they fail', async (t) => {
    const provide = await migrations(t, 'echo no such table; exit 3')
    for (const migrate of [true, false])
      await assert.rejects(provide({}, { migrate }), { message: /the database: no such table$/ })
  })
})
