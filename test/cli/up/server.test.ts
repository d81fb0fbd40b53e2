import '../../helpers/cleanup.ts'
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { readEnv } from '../../../src/base/env.ts'
import { launch, temporaryFolder } from '../../../src/cli/up/child.ts'
import {
  checkExcluded,
  type DependencyOptions,
  missingPrograms,
  providePostgres,
  provideRedis,
} from '../../../src/cli/up/dependencies.ts'
import { findProgram } from '../../../src/cli/up/find.ts'
import { assertReachable, lastLines, probePort, startServer } from '../../../src/cli/up/server.ts'
import { whyEnded, whyUnready } from '../../../src/cli/up/unready.ts'
import { startListening } from '../../edge/listening.ts'
import { isAlive } from '../../helpers/alive.ts'
import { freePort } from '../../helpers/free-port.ts'
import { response } from '../fleet-test/stand-ins.ts'

const listen = (greeting = ''): Promise<number> =>
  startListening(createServer((socket) => socket.on('error', () => {}).once('data', () => socket.end(greeting))))

describe('a server', () => {
  const define = (script: string, isUp: () => Promise<boolean>) => ({
    ...{ title: 'The server', port: 1, folder: '/tmp', program: '/bin/sh' },
    start: () => launch('/bin/sh', ['-c', script]),
    isUp,
  })

  it('is returned when it is up, and keeps its place when it restarts', async () => {
    let looks = 0
    const server = await startServer(define('sleep 600', async () => ++looks >= 3))
    assert.equal(looks, 3)
    const { pid, child, port, folder, program } = server
    assert.deepEqual([port, folder, program, isAlive(pid)], [1, '/tmp', '/bin/sh', true])
    await server.restart()
    assert.notEqual(server.pid, pid)
    assert.deepEqual([isAlive(pid), isAlive(server.pid), server.child === child], [false, true, false])
    await server.kill('SIGSTOP')
    assert.ok(isAlive(server.pid))
    await server.kill()
    assert.equal(server.child.ended?.signal, 'SIGKILL')
    await server.stop()
  })

  it('fails with its last lines when it ends', async () => {
    await assert.rejects(startServer(define('echo one; echo two >&2; exit 7', async () => false)), {
      code: 'FLEET_ERR_SERVICE_FAILED',
      message: /The server ended with 7: one\ntwo$/,
    })
    await assert.rejects(startServer(define('kill -KILL $$', async () => false)), /ended with SIGKILL: no output$/)
  })

  it('is stopped if it is not up within a minute', async (t) => {
    const now = performance.now.bind(performance)
    let child: ReturnType<typeof launch> | undefined
    const definition = define('sleep 600', async () => false)
    t.mock.method(performance, 'now', () => now() * 200)
    const start = () => (child = definition.start())
    await assert.rejects(startServer({ ...definition, start }), /The server does not respond: no output$/)
    assert.equal(isAlive(child?.pid as number), false)
  })

  it('shows the last lines of its output, five by default', async () => {
    const child = launch('/bin/sh', ['-c', 'for i in 1 2 3 4 5 6 7; do echo $i; done'])
    await child.exit
    assert.deepEqual([lastLines(child), lastLines(child, 2)], ['3\n4\n5\n6\n7', '6\n7'])
  })
})

describe('a probe', () => {
  it('finds an open port, or one that responds as expected', async () => {
    const port = await listen('Ready')
    assert.deepEqual(
      [await probePort(port), await probePort(port, 'x', /^R/), await probePort(port, 'x', /^E/), await probePort(1)],
      [true, true, false, false],
    )
  })

  it('names the address of a URL whose server is missing, without its password', async () => {
    const free = await freePort()
    const url = `redis://user:secret@127.0.0.1:${free}/0`
    const message = `no server listens at 127.0.0.1:${free} (REDIS_URL); start it or unset REDIS_URL`
    await assert.rejects(
      assertReachable('REDIS_URL', url, 6379),
      ({ code, message: text }: Error & { code: string }) => {
        assert.equal(code, 'FLEET_ERR_SERVICE_FAILED')
        assert.ok(text.endsWith(message), text)
        return true
      },
    )
    const open = await listen()
    await assertReachable('REDIS_URL', `redis://127.0.0.1:${open}`, 1)
    await assertReachable('REDIS_URL', 'redis://127.0.0.1', open)
    for (const socket of [
      'redis:///run/redis.sock',
      'postgres://%2Frun/x',
      'postgres://127.0.0.1:1/x?host=/run',
      'nonsense',
    ])
      await assertReachable('X', socket, 1)
  })
})

describe('what fleet up starts', () => {
  const options = (
    env: Record<string, string>,
    more: Partial<DependencyOptions> = {},
  ): DependencyOptions & { notes: string[]; events: string[] } => {
    const [notes, events]: [string[], string[]] = [[], []]
    return {
      ...{
        env: readEnv(env),
        needs: {},
        include: new Set(),
        exclude: new Set(),
        migrate: false,
        seed: false,
        install: false,
      },
      ...{ notes, events, onEvent: (line) => void events.push(line), onNote: (text) => void notes.push(text) },
      ...more,
    }
  }

  it('rejects a server that is excluded and named', () => {
    const excluded = (name: 'redis' | 'postgres', env: Record<string, string>) =>
      checkExcluded(options(env, { exclude: new Set([name]) }))
    for (const [name, variable, value] of [
      ['redis', 'REDIS_URL', 'redis://a'],
      ['redis', 'REDIS_HOST', 'a'],
      ['redis', 'REDIS_SENTINELS', 'a:1'],
      ['redis', 'REDIS_CLUSTER', 'a:1'],
      ['postgres', 'DATABASE_URL', 'postgres://a/b'],
    ] as const) {
      const message = `invalid command line: --without ${name} and ${variable} contradict each other; unset ${variable}`
      assert.throws(() => excluded(name, { [variable]: value }), { code: 'FLEET_ERR_USAGE', message })
      excluded(name === 'redis' ? 'postgres' : 'redis', { [variable]: value })
    }
    excluded('redis', {})
  })

  it('is Redis, unless it is named or excluded, and PostgreSQL if the app uses it', async (t) => {
    const before = process.env.PATH
    process.env.PATH = temporaryFolder('empty')
    t.after(() => {
      process.env.PATH = before
    })
    const missing = async (env: Record<string, string>, more: Partial<DependencyOptions> = {}): Promise<string> =>
      (await missingPrograms(options(env, more))).map(({ title }) => title).join()
    const hasRedis = findProgram(['redis-server', 'valkey-server']) !== undefined
    const redis = hasRedis ? '' : 'Redis'
    assert.equal(await missing({}), redis)
    for (const [name, value] of [
      ['REDIS_URL', 'redis://a'],
      ['REDIS_HOST', 'a'],
      ['REDIS_SENTINELS', 'a:1'],
      ['REDIS_CLUSTER', 'a:1'],
    ] as const)
      assert.equal(await missing({ [name]: value }), '', name)
    assert.equal(await missing({}, { exclude: new Set(['redis']) }), '')
  })

  it('is nothing where the environment names it', async () => {
    const port = await listen()
    const named = options({ REDIS_URL: `redis://127.0.0.1:${port}`, DATABASE_URL: `postgres://127.0.0.1:${port}/x` })
    assert.deepEqual(await provideRedis(named), { description: 'Redis named by REDIS_URL', env: {}, shared: true })
    assert.deepEqual(await providePostgres(named), {
      description: 'PostgreSQL named by DATABASE_URL',
      env: {},
      shared: true,
    })
    assert.deepEqual([named.notes, named.events], [[], []])
    for (const name of ['REDIS_HOST', 'REDIS_SENTINELS', 'REDIS_CLUSTER'])
      assert.equal(
        (await provideRedis(options({ [name]: '127.0.0.1:1'.slice(0, name === 'REDIS_HOST' ? 9 : 11) }))).description,
        `Redis named by ${name}`,
      )
    const gone = options({ REDIS_URL: 'redis://127.0.0.1:1', DATABASE_URL: 'postgres://127.0.0.1:1/x' })
    await assert.rejects(provideRedis(gone), { code: 'FLEET_ERR_SERVICE_FAILED', message: /\(REDIS_URL\)/ })
    await assert.rejects(providePostgres(gone), { code: 'FLEET_ERR_SERVICE_FAILED', message: /\(DATABASE_URL\)/ })
  })

  it('does not go on without a Redis that is installed and fails', async (t) => {
    const { PATH } = process.env
    t.after(() => {
      process.env.PATH = PATH
    })
    process.env.PATH = temporaryFolder('broken')
    writeFileSync(join(process.env.PATH, 'redis-server'), '#!/bin/sh\necho no memory; exit 9\n', { mode: 0o755 })
    const broken = options({})
    await assert.rejects(provideRedis(broken), {
      code: 'FLEET_ERR_SERVICE_FAILED',
      message: /Redis ended with 9: no memory$/,
    })
    assert.deepEqual(broken.notes, [])
  })

  it('leaves the state of one instance in memory without Redis, and says why there is no database', async () => {
    const without = options({}, { exclude: new Set(['redis', 'postgres']), needs: { postgres: 'x' } })
    const memory = { description: 'memory of the only instance', env: {}, shared: false }
    assert.deepEqual(await provideRedis(without), memory)
    assert.deepEqual(without.notes, ['without Redis, one instance runs with its state in memory'])
    assert.deepEqual(await providePostgres(without), {
      description: 'nothing: --without postgres',
      env: {},
      shared: true,
    })
    const unused = await providePostgres(options({}))
    assert.equal(unused.description, 'nothing: the app does not seem to use PostgreSQL (see --with)')
  })
})

describe('why an instance is not ready', () => {
  it('is what it responds, and waiting is pointless below 500', () => {
    const why = (given: Parameters<typeof response>[0]) => whyUnready(1, 4_001, response(given))
    assert.deepEqual(why({ status: 503, json: { reason: 'starting' } }), {
      text: 'GET /ready responds 503: starting',
      final: false,
    })
    assert.deepEqual(why({ status: 500, json: { reason: 3 } }), { text: 'GET /ready responds 500', final: false })
    assert.deepEqual(why({ status: 499 }), { text: 'GET /ready responds 499', final: true })
    assert.match(why({ status: 404 }).text, /^it has no GET \/ready \(404\); register the plugin/)
    assert.equal(why({ status: 404 }).final, true)
    const renamed = why({ status: 404, instanceId: 'a' })
    assert.deepEqual(
      [renamed.text, renamed.final],
      ['its GET /ready is switched off or renamed; keep `health.paths.ready`', true],
    )
    assert.deepEqual(why({ status: 0, error: 'ECONNRESET' }), {
      text: 'it accepts connections on port 4001, but GET /ready gets no response (ECONNRESET)',
      final: false,
    })
  })

  it('is the port on which it listens', { skip: process.platform === 'linux' ? false : 'needs /proc' }, async (t) => {
    const port = await listen()
    const refused = response({ status: 0, error: 'ECONNREFUSED' })
    const other = whyUnready(process.pid, 4_001, refused)
    assert.match(
      other.text,
      new RegExp(`^it listens on port (?:\\d+, )*${port}(?:, \\d+)*; listen on PORT, which is 4001`),
    )
    assert.equal(other.final, false)
    // It began to listen after the request.
    assert.match(whyUnready(process.pid, port, refused).text, /^it does not listen yet; listen on PORT/)
    const elsewhere = createServer().listen(0, '127.0.0.2')
    t.after(() => elsewhere.close())
    await once(elsewhere, 'listening')
    const { port: own } = elsewhere.address() as AddressInfo
    assert.equal(
      whyUnready(process.pid, own, refused).text,
      `it listens on port ${own}, but not on 127.0.0.1; listen on HOST or 0.0.0.0`,
    )
    const child = launch('/bin/sleep', ['600'])
    assert.match(whyUnready(child.pid, 4_001, refused).text, /^it does not listen yet; listen on PORT/)
    await child.stop()
  })

  it('is a port that it shares, or its end', () => {
    const taken = 'Error: listen EADDRINUSE: address already in use 127.0.0.1:3000'
    assert.match(
      whyEnded(1, taken, 4_001) ?? '',
      /^every instance needs a port of its own; listen on PORT, which is 4001/,
    )
    assert.equal(whyEnded(1, taken, 3_000), undefined)
    assert.match(whyEnded(0, '', 4_001) ?? '', /^it must keep running and listen on PORT, which is 4001/)
    assert.equal(whyEnded(1, '', 4_001), undefined)
    assert.equal(whyEnded(null, '', 4_001), undefined)
  })
})

describe('a program', () => {
  it('is found on PATH first, by the preferred name, then in the folder of the highest version', (t) => {
    const before = process.env.PATH
    t.after(() => {
      process.env.PATH = before
    })
    const folder = temporaryFolder('find')
    const add = (path: string, mode = 0o755): string => {
      const file = join(folder, path)
      mkdirSync(join(file, '..'), { recursive: true })
      writeFileSync(file, '')
      chmodSync(file, mode)
      return file
    }
    process.env.PATH = `${join(folder, 'one')}::${join(folder, 'two')}`
    const versions = [join(folder, 'lib/*/bin')]
    assert.equal(findProgram(['fleet-x'], versions), undefined)
    for (const version of ['9', '10', '2']) add(`lib/${version}/bin/fleet-x`)
    assert.equal(findProgram(['fleet-x'], versions), join(folder, 'lib/10/bin/fleet-x'))
    const second = add('two/fleet-x')
    assert.equal(findProgram(['fleet-x'], versions), second)
    add('one/fleet-x', 0o644)
    assert.equal(findProgram(['fleet-x']), second, 'not executable')
    mkdirSync(join(folder, 'one/fleet-y'))
    assert.equal(findProgram(['fleet-y']), undefined, 'a folder')
    const preferred = add('two/fleet-z')
    assert.equal(findProgram(['fleet-z', 'fleet-x']), preferred)
  })
})
