import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { FleetError } from '../../../src/base/errors.ts'
import { shortcuts } from '../../../src/base/internals/shortcuts.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { health } from '../../../src/instance/health/index.ts'
import {
  guarded,
  isOutage,
  type RedisOptions,
  redis,
  script,
  sharedSecret,
  unavailable,
} from '../../../src/state/redis/index.ts'
import { freePort } from '../../helpers/free-port.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { Relay } from '../../helpers/relay.ts'
import { until } from '../../helpers/until.ts'
import { patient, patientApp, within } from './patience.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

/** An app with the plugin, and the lines it logs. */
async function build(options: RedisOptions): Promise<{ app: FastifyInstance; log: { level: number; msg: string }[] }> {
  const log: { level: number; msg: string }[] = []
  const app = Fastify({ ...patientApp, logger: { stream: { write: (line: string) => log.push(JSON.parse(line)) } } })
  apps.push(app)
  await app.register(redis, { ...patient, ...options })
  return { app, log }
}
const code = (expected: string) => (error: unknown) => error instanceof FleetError && error.code === expected

/** Sets environment variables during one call. */
async function withEnv<T>(env: Record<string, string | undefined>, run: () => Promise<T>): Promise<T> {
  const before = Object.fromEntries(Object.keys(env).map((name) => [name, process.env[name]]))
  const set = (values: Record<string, string | undefined>): void => {
    for (const [name, value] of Object.entries(values)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
  set(env)
  try {
    return await run()
  } finally {
    set(before)
  }
}

describe('without Redis', () => {
  test('keeps state in memory, with a warning', async () => {
    const { app, log } = await build({ client: null })
    assert.ok(app.hasPlugin('fleet-redis'))
    assert.equal(app.redis, null)
    assert.equal(app.fleet.facts.redis, 'memory')
    assert.ok(log.some(({ level, msg }) => level === 40 && /memory of this process/.test(msg)))
  })

  test('rejects memory in production unless it is allowed', async () => {
    const boot = (options: RedisOptions): Promise<unknown> =>
      withEnv({ NODE_ENV: 'production', REDIS_URL: undefined }, () => build(options))
    await assert.rejects(boot({}), code('FLEET_ERR_MEMORY_IN_PRODUCTION'))
    await boot({ allowMemory: true })
    await withEnv({ FLEET_ALLOW_MEMORY: '1' }, () => boot({}))
  })

  test('generates a secret outside production only', async () => {
    const { app } = await build({ client: null })
    const secrets = await sharedSecret(app, 'SESSION_SECRET', undefined)
    assert.deepEqual([secrets.length, secrets[0]?.length], [1, 64])
    assert.equal(await sharedSecret(app, 'SESSION_SECRET', undefined), secrets, 'of all plugins that ask for this name')
    assert.notDeepEqual(await sharedSecret(app, 'JWT_SECRET', undefined), secrets)
    assert.notDeepEqual(await sharedSecret((await build({ client: null })).app, 'SESSION_SECRET', undefined), secrets)
    await withEnv({ NODE_ENV: 'production' }, () =>
      assert.rejects(sharedSecret(app, 'SESSION_SECRET', undefined), code('FLEET_ERR_SECRET_MISSING')),
    )
  })

  test('rejects a weak secret without showing it', async () => {
    const { app } = await build({ client: null })
    await assert.rejects(sharedSecret(app, 'SESSION_SECRET', ['x'.repeat(32), 'hunter2']), (error: FleetError) => {
      assert.equal(error.code, 'FLEET_ERR_SECRET_WEAK')
      assert.match(error.message, /SESSION_SECRET has 7 bytes/)
      assert.doesNotMatch(error.message, /hunter2/)
      return true
    })
    for (const enough of ['x'.repeat(32), '\u00e9'.repeat(16)])
      assert.deepEqual(await sharedSecret(app, 'SESSION_SECRET', enough), [enough], 'counted in bytes')
  })
})

test('an error of the shared state is an outage, and every other error of Redis becomes one', () => {
  for (const [message, expected] of [
    ['OOM command not allowed', 'FLEET_ERR_STATE_FULL'],
    ['-OOM command not allowed', 'FLEET_ERR_STATE_FULL'],
    ['ERR of a command: OOM x', 'FLEET_ERR_STATE_UNAVAILABLE'],
    ['Connection is closed.', 'FLEET_ERR_STATE_UNAVAILABLE'],
  ] as const) {
    const error = unavailable(new Error(message))
    assert.deepEqual([error.code, error.statusCode, isOutage(error)], [expected, 503, true], message)
  }
  const other = new FleetError('FLEET_ERR_TOKEN_MISSING')
  assert.equal(unavailable(other), other)
  for (const error of [other, new Error('x')]) assert.equal(isOutage(error), false)
})

describe('invalid options', () => {
  const cases: [string, RedisOptions][] = [
    ['two addresses', { url: 'redis://127.0.0.1', host: '127.0.0.1' }],
    ['a URL of another scheme', { url: 'http://127.0.0.1' }],
    ['a database that is not a number', { url: 'redis://127.0.0.1/main' }],
    ['a database below zero', { url: 'redis://127.0.0.1/-1' }],
    ['a URL with an unknown part', { url: 'redis://127.0.0.1?keyPrefix=x' }],
    ['a URL with a user name, but no password', { url: 'redis://fleet@127.0.0.1' }],
    ['a password that cannot be decoded', { url: 'redis://:50%off@127.0.0.1' }],
    ['a user name that cannot be decoded', { url: 'redis://%zz:x@127.0.0.1' }],
    ['a node without a host', { cluster: [':7000'] }],
    ['a node with a path', { cluster: ['127.0.0.1:7000/x'] }],
    ['a sentinel without a host', { sentinels: 'main@127.0.0.1:26379,:26380' }],
    ['a command timeout of 0', { host: '127.0.0.1', commandTimeoutMs: 0 }],
    ['an object that is not a client', { client: {} as Redis }],
  ]
  for (const [what, options] of cases)
    test(`are rejected: ${what}`, () => assert.rejects(build(options), code('FLEET_ERR_OPTION_INVALID')))
})

describe('with Redis', () => {
  let server: RedisServer
  before(async () => {
    server = await startRedis({ args: ['--requirepass', 'pass/word'] })
  })

  test('connects, names keys by slot, and quits on close', async () => {
    const { app, log } = await build({ url: `redis://:pass%2Fword@127.0.0.1:${server.port}/1` })
    assert.equal(await app.redis?.ping(), 'PONG')
    assert.equal(app.redisKey('session', 'a1'), 'fleet:session:{a1}')
    assert.equal(app.fleet.facts.redis, 'single')
    const client = app.redis
    let last: unknown
    app.addHook('onClose', async () => {
      last = await client?.ping()
    })
    await app.close()
    assert.equal(last, 'PONG', 'it is open while the plugins that use it close')
    await until(() => client?.status === 'end', { what: 'the end of the connection' })
    assert.ok(!JSON.stringify(log).includes('word'))
  })

  test('connects as the environment says, unless an option overrides it', async () => {
    await withEnv({ REDIS_URL: `redis://127.0.0.1:${server.port}`, REDIS_PASSWORD: 'pass/word' }, async () => {
      const { app } = await build({})
      assert.equal(await app.redis?.ping(), 'PONG')
      assert.equal((await build({ client: null })).app.redis, null)
    })
    await withEnv({ REDIS_URL: 'redis://127.0.0.1:1', REDIS_PASSWORD: 'pass/word' }, async () => {
      const { port } = server
      for (const given of [{ host: '127.0.0.1', port }, { port }])
        assert.equal(await (await build(given)).app.redis?.ping(), 'PONG')
    })
  })

  test('uses the database, the IP version and the user name of the URL', async () => {
    const admin = new Redis({ port: server.port, password: 'pass/word' })
    await admin.call('ACL', 'SETUSER', 'fleet', 'on', '>sesame', '~*', '&*', '+@all')
    await admin.quit()
    const { app } = await build({ url: `redis://fleet:sesame@localhost:${server.port}?db=3&family=4` })
    const redis = app.redis as Redis
    assert.match(String(await redis.client('INFO')), /laddr=127\.0\.0\.1:.* db=3 .*user=fleet/)
  })

  test('connects to a Unix domain socket', async () => {
    const socket = `${temporaryFolder('redis-socket')}/redis.sock`
    await startRedis({ args: ['--unixsocket', socket] })
    const { app } = await build({ url: `unix://${socket}?db=2` })
    assert.match(String(await (app.redis as Redis).client('INFO')), new RegExp(`addr=${socket}:0 .* db=2 `))
  })

  test('keeps the TLS options for a rediss: URL', async () => {
    const { app } = await build({ url: 'rediss://127.0.0.1:1', tls: { servername: 'cache' }, connectTimeoutMs: 0 })
    assert.deepEqual((app.redis as Redis).options.tls, { servername: 'cache' })
  })

  test('is checked within the time of a command', async () => {
    const app = Fastify()
    apps.push(app)
    const added: unknown[] = []
    app.decorate('health', { add: (...[, , check]: unknown[]) => added.push(check), failed() {} } as never)
    await app.register(redis, {
      host: '127.0.0.1',
      port: 1,
      connectTimeoutMs: 0,
      commandTimeoutMs: 300,
      critical: true,
    })
    assert.deepEqual(added, [{ critical: true, timeoutMs: 400 }])
    const own = Object.assign(new EventEmitter(), { status: 'ready', hgetall() {}, duplicate() {}, sendCommand() {} })
    const { sendCommand } = own
    const other = Fastify()
    apps.push(other)
    other.decorate('health', { add() {}, failed() {} } as never)
    await other.register(redis, { client: own as never })
    assert.equal(own.sendCommand, sendCommand, 'the commands of a client of the app are not watched')
  })

  test('leaves a client of the application open', async () => {
    const client = new Redis({ port: server.port, password: 'pass/word' })
    const { app } = await build({ client })
    await app.close()
    assert.equal(await client.ping(), 'PONG')
    await client.quit()
  })

  test('logs a wrong password once, without the password', async () => {
    const { app, log } = await build({
      url: `redis://:sesame@127.0.0.1:${server.port}`,
      connectTimeoutMs: 300,
    })
    await until(() => log.some(({ level }) => level === 50))
    await assert.rejects(guarded((app.redis as Redis).ping()), code('FLEET_ERR_STATE_UNAVAILABLE'))
    assert.equal(log.filter(({ level }) => level === 50).length, 1)
    assert.ok(!JSON.stringify(log).includes('sesame'))
  })

  test('runs scripts as functions and maps their errors to 503', async () => {
    const { app } = await build({ url: server.url, password: 'pass/word' })
    const add = script<number>(app.redis as Redis, 'fleetTestAdd', 1, 'return redis.call("INCRBY", KEYS[1], ARGV[1])')
    const key = app.redisKey('test', 'sum')
    assert.deepEqual(await Promise.all([add(key, 1), add(key, 2), add(key, 3)]), [1, 3, 6])
    await app.redis?.set(key, 'text')
    await assert.rejects(add(key, 1), (error: FleetError) => {
      assert.equal(error.code, 'FLEET_ERR_STATE_UNAVAILABLE')
      assert.equal(error.statusCode, 503)
      assert.equal(error.headers?.['retry-after'], '1')
      assert.doesNotMatch(error.message, /ERR|integer/)
      assert.match((error.cause as Error).message, /not an integer/)
      return true
    })
  })

  test('shares one generated secret among instances', async () => {
    const built = await Promise.all([1, 2, 3].map(() => build({ url: server.url, password: 'pass/word' })))
    const shared = async (name: string): Promise<Set<string>> => {
      const secrets = await Promise.all(built.map(({ app }) => sharedSecret(app, name, undefined)))
      return new Set(secrets.flat())
    }
    const [one, two] = [await shared('TEST_SECRET'), await shared('OTHER_SECRET')]
    assert.deepEqual([one.size, two.size, new Set([...one, ...two]).size], [1, 1, 2])
  })

  test('shares no generated secret that another program made too short', async () => {
    const { app } = await build({ url: server.url, password: 'pass/word' })
    for (const [name, found, length] of [
      ['SHORT', 'x'.repeat(31), 64],
      ['LONG', 'x'.repeat(32), 32],
    ] as const) {
      await app.redis?.set(app.redisKey('secret', name), found)
      const secrets = await sharedSecret(app, name, undefined)
      assert.deepEqual([secrets.length, secrets[0]?.length], [1, length])
    }
  })
})

describe('while Redis is unavailable', () => {
  test('boots without Redis and connects later', async () => {
    const port = await freePort()
    const { app, log } = await build({ host: '127.0.0.1', port, connectTimeoutMs: 50 })
    const early = await sharedSecret(app, 'EARLY', undefined)
    await app.ready()
    await assert.rejects(guarded((app.redis as Redis).ping()), code('FLEET_ERR_STATE_UNAVAILABLE'))
    const generated = early[0]

    const server = await startRedis({ port })
    const other = await build({ host: '127.0.0.1', port })
    const late = await sharedSecret(other.app, 'EARLY', undefined)
    await until(() => app.redis?.ping(), { what: 'the connection' })
    await until(() => early[0] === late[0], { what: 'the shared secret' })
    assert.equal(early.length, 1)
    assert.ok(generated)
    assert.equal(log.filter(({ level }) => level === 50).length, 1, 'one error line per outage')

    await other.app.close()
    await server.kill('SIGKILL')
    await until(() => log.filter(({ level }) => level === 50).length === 2, { what: 'the second outage' })
    await assert.rejects(guarded((app.redis as Redis).ping()), code('FLEET_ERR_STATE_UNAVAILABLE'))
    await server.restart()
    await until(() => app.redis?.ping(), { what: 'the connection after the restart' })
    const stored = (): Promise<string | null> | undefined => app.redis?.get(app.redisKey('secret', 'EARLY'))
    await until(async () => (await stored()) === early[0], { what: 'the shared secret in an empty Redis' })
  })

  test('degrades the instance, or makes it unready if `critical` is true', async () => {
    const server = await startRedis()
    const build = async (critical: boolean): Promise<FastifyInstance> => {
      const app = Fastify()
      apps.push(app)
      await app.register(health, { checks: { intervalMs: 100, fall: 1, rise: 1 } })
      await app.register(redis, { url: server.url, critical })
      await app.listen({ host: '127.0.0.1', port: 0 })
      await until(() => app.fleet.ready, { what: 'readiness' })
      return app
    }
    const [lenient, strict] = [await build(false), await build(true)]
    await server.kill('SIGKILL')
    await until(() => lenient.health.status === 'degraded' && !strict.fleet.ready)
    assert.equal(lenient.fleet.ready, true)
    await server.restart()
    await until(() => lenient.health.status === 'healthy' && strict.fleet.ready)
  })

  test('degrades the instance while Redis is full, and reports that with its own error code', async () => {
    const server = await startRedis()
    const app = Fastify(patientApp)
    apps.push(app)
    await app.register(health, { checks: { intervalMs: 100, fall: 1, rise: 1 } })
    await app.register(redis, { url: server.url, ...patient })
    await app.listen({ host: '127.0.0.1', port: 0 })
    await until(() => app.health.status === 'healthy')
    const client = app.redis as Redis
    const add = script(client, 'fleetTestFill', 1, 'return redis.call("SET", KEYS[1], ARGV[1])')
    await client.config('SET', 'maxmemory', '1')
    await until(() => app.health.status === 'degraded')
    assert.match(app.health.reports.redis?.lastError ?? '', /^shared state is full.*maxmemory/)
    await assert.rejects(guarded(client.set('k', 'v')), code('FLEET_ERR_STATE_FULL'))
    await assert.rejects(add('k', 'v'), code('FLEET_ERR_STATE_FULL'))
    await client.config('SET', 'maxmemory-policy', 'allkeys-lru')
    await until(() => app.health.status === 'healthy')
    await client.config('SET', 'maxmemory', '0')
    await guarded(client.set('k', 'v'))
  })

  test('a command that fails because of Redis degrades the check at once, and the check recovers by itself', async () => {
    const server = await startRedis()
    const app = Fastify(patientApp)
    apps.push(app)
    await app.register(health, { checks: { intervalMs: 3_600_000 } })
    await app.register(redis, { url: server.url, ...patient, commandTimeoutMs: 1000 })
    await app.ready()
    const client = app.redis as Redis
    const healthy = (): Promise<unknown> => until(() => app.health.reports.redis?.status === 'up')
    await healthy()
    await client.set('text', 'x')
    await assert.rejects(client.lpush('text', 'y'), /WRONGTYPE/)
    assert.equal(app.health.reports.redis?.status, 'up', 'the fault of the command')

    await server.kill('SIGSTOP')
    await assert.rejects(client.get('text'))
    assert.equal(app.health.reports.redis?.status, 'degraded')
    assert.notEqual(app.health.status, 'healthy')
    await until(() => app.health.reports.redis?.status === 'down', { what: 'three failed runs' })
    await server.kill('SIGCONT')
    await until(() => client.status === 'ready')
    await app.health.check()
    await app.health.check()
    await healthy()

    await client.replicaof('127.0.0.1', 1)
    await assert.rejects(client.set('text', 'y'), /READONLY/)
    assert.equal(app.health.reports.redis?.status, 'degraded')
    await until(() =>
      client.replicaof('NO', 'ONE').then(
        () => true,
        () => false,
      ),
    )
    await healthy()

    client.disconnect(true)
    await until(() => app.health.reports.redis?.status === 'degraded', { what: 'a lost connection' })
    await healthy()
    await server.stop()
  })

  test('ends every command, and close(), while Redis is suspended', async () => {
    const server = await startRedis()
    const { app } = await build({ url: server.url, commandTimeoutMs: 100 })
    const client = app.redis as Redis
    await server.kill('SIGSTOP')
    const waiting = Array.from({ length: 20 }, () => guarded(client.get('k')))
    for (const result of await Promise.allSettled(waiting)) assert.equal(result.status, 'rejected')
    await until(() => client.status !== 'ready', { what: 'the end of the connection' })
    await app.close()
    await server.kill('SIGCONT')
  })

  describe('no command takes longer than its time limit', { concurrency: true }, () => {
    const limitMs = 1000
    /** Fails if the command takes much longer than the limit, not counting the time for which this process was suspended. */
    const outcomeOf = async (command: Promise<unknown>): Promise<string> => {
      let outcome = ''
      const settled = (as: string) => () => {
        outcome = as
      }
      command.then(settled('replied'), settled('failed'))
      await within(limitMs * 1.6, 'a reply or an error', () => outcome !== '')
      return outcome
    }
    const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

    for (const end of ['silence', 'cut', 'refuse'] as const)
      test(`on a connection with the fault: ${end}`, async () => {
        const server = await startRedis()
        const relay = await Relay.open(server.port)
        const { app } = await build({ host: '127.0.0.1', port: relay.port, commandTimeoutMs: limitMs })
        const client = app.redis as Redis
        assert.equal(await outcomeOf(client.set('k', 1)), 'replied')
        const sent: Promise<string>[] = []
        for (let turn = 0; turn < 25; turn++) {
          if (turn === 5) relay[end]()
          // Two commands, so that one waits for its reply while the next is sent.
          sent.push(outcomeOf(client.get('k')), outcomeOf(client.incr('n')))
          await pause(limitMs / 10)
          // Suspended, then killed: new connections are refused.
          if (turn === 18 && end === 'silence') relay.refuse()
        }
        const outcomes = await Promise.all(sent)
        assert.ok(outcomes.includes('failed'))
        await relay.restore()
        await until(() => client.ping(), { what: 'the connection' })
        assert.equal(await outcomeOf(client.get('k')), 'replied')
      })
  })

  // Timeouts of ioredis cannot tell a blocked process from a silent server.
  const skip = shortcuts.redisDeadlines ? false : 'needs `redisDeadlines`'
  test('reads replies that arrived while the process was blocked', { skip }, async () => {
    const server = await startRedis()
    const { app } = await build({ url: server.url, commandTimeoutMs: 300 })
    await app.ready()
    const client = app.redis as Redis
    // The process is blocked again during its extra time.
    for (const isWritten of [true, false, true, true, false, false]) {
      const replies = Promise.allSettled(Array.from({ length: 20 }, () => client.set('k', 'v')))
      // Block the process before and after the commands are written.
      if (isWritten) await new Promise((resolve) => setImmediate(resolve))
      // Block the event loop without using the CPU.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 700)
      for (const { status } of await replies) assert.equal(status, 'fulfilled')
      assert.equal(client.status, 'ready')
    }
  })

  test('boots if the server never replies', async () => {
    const sockets: Socket[] = []
    const silent = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1')
    await until(() => silent.listening)
    const { port } = silent.address() as { port: number }
    const { app } = await build({ host: '127.0.0.1', port, connectTimeoutMs: 100, commandTimeoutMs: 100 })
    await app.ready()
    await assert.rejects(guarded((app.redis as Redis).get('k')), code('FLEET_ERR_STATE_UNAVAILABLE'))
    await app.close()
    for (const socket of sockets) socket.destroy()
    silent.close()
  })
})
