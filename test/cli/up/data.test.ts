import assert from 'node:assert/strict'
import fs, { chmodSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Client } from 'pg'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { DataFolder } from '../../../src/cli/up/data.ts'
import type { PostgresServer } from '../../../src/cli/up/postgres.ts'
import { startPostgres } from '../../helpers/postgres.ts'
import { fleetUp, project } from './apps.ts'

/** Counts in Redis, and shows the secrets. */
const app = `
import { createServer } from 'node:http'
import { Redis } from 'ioredis'
const redis = new Redis(process.env.REDIS_URL)
const server = createServer(async ({ url }, response) => {
  response.setHeader('connection', 'close')
  response.end(url === '/' ? await redis.incr('count') + ' ' + process.env.SESSION_SECRET + ' ' + process.env.JWT_SECRET : '')
})
server.listen(process.env.PORT, process.env.HOST)
process.on('SIGTERM', () => process.exit(0))
`

function dataFolder(): DataFolder {
  const folder = temporaryFolder('data')
  chmodSync(folder, 0o755)
  return new DataFolder(join(folder, 'kept'))
}

describe('fleet up --data', { concurrency: true }, () => {
  it('keeps what Redis stores and the secrets, for one run at a time', async (t) => {
    const folder = project({ 'app.js': app })
    const args = ['app.js', '-n', '1', '-f', 'node', '--data', 'kept', '--json']
    const responses: string[] = []
    for (const run of [1, 2]) {
      const up = await fleetUp(folder, args, { DRAIN_DELAY: 0 })
      t.after(() => up.stop())
      const { front } = JSON.parse((await up.waitFor(/^\{.*\}\n/m))[0])
      responses.push(await (await fetch(front.url)).text())
      if (run === 1) {
        const second = await fleetUp(folder, args.slice(0, -1))
        assert.deepEqual(await second.exit, { code: 1, signal: null })
        const message = new RegExp(`FLEET_ERR_SERVICE_FAILED .*--data kept: process ${up.pid} uses it; stop that`)
        assert.match(second.stderr, message)
      }
      await up.kill('SIGTERM')
      assert.deepEqual(up.ended, { code: 0, signal: null }, up.stderr)
      assert.equal(existsSync(join(folder, 'kept/lock')), false)
    }
    const [first = '', second = ''] = responses
    const [, sessions, tokens] = /^1 ([\w-]{43}) ([\w-]{43})$/.exec(first) ?? []
    assert.ok(sessions && tokens && sessions !== tokens, first)
    assert.equal(second, first.replace('1', '2'))
  })

  it('keeps what PostgreSQL stores, with its password', async () => {
    const data = dataFolder()
    const start = (): Promise<PostgresServer> =>
      startPostgres({ data: { folder: data.folder('postgres'), password: data.secret('postgres') } })
    const query = async (server: PostgresServer, text: string): Promise<unknown[]> => {
      const client = new Client({ connectionString: server.url })
      await client.connect()
      const { rows } = await client.query(text)
      await client.end()
      return rows
    }
    const first = await start()
    await query(first, 'CREATE TABLE kept AS SELECT 7 AS number')
    await first.stop()
    const second = await start()
    assert.deepEqual(await query(second, 'SELECT number FROM kept'), [{ number: 7 }])
    await second.stop()
  })

  it('waits ten seconds for the end of a Redis that still uses the folder', async (t) => {
    const data = dataFolder()
    const pid = join(data.folder('redis'), 'redis.pid')
    writeFileSync(pid, String(process.ppid))
    const now = performance.now.bind(performance)
    t.mock.method(performance, 'now', () => now() * 100)
    await assert.rejects(data.lock(), {
      code: 'FLEET_ERR_SERVICE_FAILED',
      message: new RegExp(`--data .*: a Redis uses it, process ${process.ppid}; stop it$`),
    })
    assert.equal(existsSync(join(data.path, 'lock')), false)
    const locking = data.lock()
    rmSync(pid)
    await locking
    data.release()
  })

  it('takes over the lock of a run that was killed, and keeps secrets private', async (t) => {
    const data = dataFolder()
    await data.lock()
    const lock = join(data.path, 'lock')
    assert.equal(readFileSync(lock, 'utf8'), String(process.pid))
    data.release()
    // The greatest number of a process on Linux, plus one.
    writeFileSync(lock, String(2 ** 22 + 1))
    await data.lock()
    data.release()
    writeFileSync(lock, String(process.ppid))
    await assert.rejects(data.lock(), { message: new RegExp(`process ${process.ppid} uses it`) })
    data.release()
    assert.ok(existsSync(lock), 'the lock of another run stays')
    rmSync(lock)
    writeFileSync(lock, '7')
    const kill = t.mock.method(process, 'kill', () => {
      throw Object.assign(new Error('not permitted'), { code: 'EPERM' })
    })
    await assert.rejects(data.lock(), { message: /process 7 uses it/ }, 'the process of another user')
    kill.mock.restore()
    rmSync(lock)
    for (const text of ['', 'x', '0', '-1', '1.5']) {
      writeFileSync(lock, text)
      await data.lock()
      data.release()
    }
    assert.equal(statSync(data.path).mode & 0o777, process.getuid?.() === 0 ? 0o711 : 0o700)
    assert.match(data.secret('jwt'), /^[\w-]{43}$/)
    assert.equal(data.secret('jwt'), new DataFolder(data.path).secret('jwt'))
    assert.equal(statSync(join(data.path, 'secrets/jwt')).mode & 0o777, 0o600)
    writeFileSync(join(data.path, 'file'), '')
    await assert.rejects(new DataFolder(join(data.path, 'file')).lock(), { message: /--data .*file: .*EEXIST/ })
  })

  it('is of one run, even if another one locks it at the same moment', async (t) => {
    const data = dataFolder()
    data.folder()
    const lock = join(data.path, 'lock')
    const { ppid } = process
    for (const [before, method] of [
      [undefined, 'writeFileSync'],
      [String(2 ** 22 + 1), 'renameSync'],
    ] as const) {
      rmSync(lock, { force: true })
      if (before !== undefined) writeFileSync(lock, before)
      const { writeFileSync: write, [method]: original } = fs
      const mock = t.mock.method(fs, method, (...args: [string, string]) => {
        mock.mock.restore()
        write(lock, String(ppid))
        return original(...args)
      })
      syncBuiltinESMExports()
      await assert.rejects(data.lock(), { message: new RegExp(`: process ${ppid} uses it; stop that`) }, method)
      mock.mock.restore()
      syncBuiltinESMExports()
      assert.deepEqual([readFileSync(lock, 'utf8'), readdirSync(data.path)], [String(ppid), ['lock']])
    }
  })
})
