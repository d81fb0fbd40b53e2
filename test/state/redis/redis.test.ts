import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { FleetError } from '../../../src/base/errors.ts'
import { health } from '../../../src/instance/health/index.ts'
import { guarded, type RedisOptions, redis, script, sharedSecret } from '../../../src/state/redis/index.ts'
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

/** Sets variables of the environment for one call, and puts back what was there. */
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
  test('state is said to live in memory, with a warning', async () => {
    const { app, log } = await build({ client: null })
    assert.equal(app.redis, null)
    assert.equal(app.fleet.facts.redis, 'memory')
    assert.ok(log.some(({ level, msg }) => level === 40 && /memory of this process/.test(msg)))
  })

  test('production refuses, unless it is told to', async () => {
    const boot = (options: RedisOptions): Promise<unknown> =>
      withEnv({ NODE_ENV: 'production', REDIS_URL: undefined }, () => build(options))
    await assert.rejects(boot({}), code('FLEET_ERR_MEMORY_IN_PRODUCTION'))
    await boot({ allowMemory: true })
    await withEnv({ FLEET_ALLOW_MEMORY: '1' }, () => boot({}))
  })

  test('a secret is made up outside production only', async () => {
    const { app } = await build({ client: null })
    const [secret] = await sharedSecret(app, 'SESSION_SECRET', undefined)
    assert.equal(secret?.length, 64)
    await withEnv({ NODE_ENV: 'production' }, () =>
      assert.rejects(sharedSecret(app, 'SESSION_SECRET', undefined), code('FLEET_ERR_SECRET_MISSING')),
    )
  })

  test('a weak secret is refused without being shown', async () => {
    const { app } = await build({ client: null })
    await assert.rejects(sharedSecret(app, 'SESSION_SECRET', ['x'.repeat(32), 'hunter2']), (error: FleetError) => {
      assert.equal(error.code, 'FLEET_ERR_SECRET_WEAK')
      assert.match(error.message, /SESSION_SECRET has 7 bytes/)
      assert.doesNotMatch(error.message, /hunter2/)
      return true
    })
  })
})

describe('options', () => {
  const cases: [string, RedisOptions][] = [
    ['two places at once', { url: 'redis://127.0.0.1', host: '127.0.0.1' }],
    ['a URL of another scheme', { url: 'http://127.0.0.1' }],
    ['a database that is no number', { url: 'redis://127.0.0.1/main' }],
    ['a database below zero', { url: 'redis://127.0.0.1/-1' }],
    ['a password that cannot be decoded', { url: 'redis://:50%off@127.0.0.1' }],
    ['a user name that cannot be decoded', { url: 'redis://%zz:x@127.0.0.1' }],
    ['a node without a host', { cluster: [':7000'] }],
    ['a node with a path', { cluster: ['127.0.0.1:7000/x'] }],
    ['an unbounded command', { host: '127.0.0.1', commandTimeoutMs: 0 }],
    ['something that is no client', { client: {} as Redis }],
  ]
  for (const [what, options] of cases)
    test(`${what}: refused`, () => assert.rejects(build(options), code('FLEET_ERR_OPTION_INVALID')))
})

describe('a server', () => {
  let server: RedisServer
  before(async () => {
    server = await startRedis({ args: ['--requirepass', 'pass/word'] })
  })

  test('answers, shares keys by slot, and is quit on close', async () => {
    const { app, log } = await build({ url: `redis://:pass%2Fword@127.0.0.1:${server.port}/1` })
    assert.equal(await app.redis?.ping(), 'PONG')
    assert.equal(app.redisKey('session', 'a1'), 'fleet:session:{a1}')
    assert.equal(app.fleet.facts.redis, 'single')
    const client = app.redis
    await app.close()
    await until(() => client?.status === 'end', { what: 'the end of the connection' })
    assert.ok(!JSON.stringify(log).includes('word'))
  })

  test('the environment names it, and code wins', async () => {
    await withEnv({ REDIS_URL: `redis://127.0.0.1:${server.port}`, REDIS_PASSWORD: 'pass/word' }, async () => {
      const { app } = await build({})
      assert.equal(await app.redis?.ping(), 'PONG')
      assert.equal((await build({ client: null })).app.redis, null)
    })
  })

  test("a client of one's own stays open", async () => {
    const client = new Redis({ port: server.port, password: 'pass/word' })
    const { app } = await build({ client })
    await app.close()
    assert.equal(await client.ping(), 'PONG')
    await client.quit()
  })

  test('a wrong password is logged once, without the password', async () => {
    const { app, log } = await build({
      url: `redis://:sesame@127.0.0.1:${server.port}`,
      connectTimeoutMs: 300,
    })
    await until(() => log.some(({ level }) => level === 50))
    await assert.rejects(guarded((app.redis as Redis).ping()), code('FLEET_ERR_STATE_UNAVAILABLE'))
    assert.equal(log.filter(({ level }) => level === 50).length, 1)
    assert.ok(!JSON.stringify(log).includes('sesame'))
  })

  test('a script is a function, and its failure is ours', async () => {
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

  test('instances agree on a made-up secret', async () => {
    const built = await Promise.all([1, 2, 3].map(() => build({ url: server.url, password: 'pass/word' })))
    const secrets = await Promise.all(built.map(({ app }) => sharedSecret(app, 'TEST_SECRET', undefined)))
    assert.equal(new Set(secrets.flat()).size, 1)
  })
})

describe('a server that is away', () => {
  test('at boot: the app starts, and is connected when it comes', async () => {
    const port = await freePort()
    const { app, log } = await build({ host: '127.0.0.1', port, connectTimeoutMs: 50 })
    await app.ready()
    await assert.rejects(guarded((app.redis as Redis).ping()), code('FLEET_ERR_STATE_UNAVAILABLE'))
    const early = await sharedSecret(app, 'EARLY', undefined)
    const madeUp = early[0]

    const server = await startRedis({ port })
    const other = await build({ host: '127.0.0.1', port })
    const late = await sharedSecret(other.app, 'EARLY', undefined)
    await until(() => app.redis?.ping(), { what: 'the connection' })
    await until(() => early[0] === late[0], { what: 'the shared secret' })
    assert.equal(early.length, 1)
    assert.ok(madeUp)
    assert.equal(log.filter(({ level }) => level === 50).length, 1, 'one error line per outage')

    await server.kill('SIGKILL')
    await until(() => log.filter(({ level }) => level === 50).length === 2, { what: 'the second outage' })
    await assert.rejects(guarded((app.redis as Redis).ping()), code('FLEET_ERR_STATE_UNAVAILABLE'))
    await server.restart()
    await until(() => app.redis?.ping(), { what: 'the connection after the restart' })
  })

  test('degrades the instance, or takes it out of rotation when it is said to be critical', async () => {
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

  test('degrades the instance while it is full, and says so to operators and in the error code', async () => {
    const server = await startRedis()
    const app = Fastify()
    apps.push(app)
    await app.register(health, { checks: { intervalMs: 100, fall: 1, rise: 1 } })
    await app.register(redis, { url: server.url })
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

  test('stopped in its tracks: every command ends, and closing does too', async () => {
    const server = await startRedis()
    const { app } = await build({ url: server.url, commandTimeoutMs: 100 })
    const client = app.redis as Redis
    await server.kill('SIGSTOP')
    const waiting = Array.from({ length: 20 }, () => guarded(client.get('k')))
    for (const result of await Promise.allSettled(waiting)) assert.equal(result.status, 'rejected')
    await until(() => client.status !== 'ready', { what: 'the socket cut' })
    await app.close()
    await server.kill('SIGCONT')
  })

  describe('no command costs more than the bound, whatever else is under way', { concurrency: true }, () => {
    const boundMs = 1000
    /**
     * Fails when it takes much longer than the bound, by the turns that this process got: the time for which it stood
     * still is given to the server as well.
     */
    const bounded = async (command: Promise<unknown>): Promise<string> => {
      let outcome = ''
      const ended = (how: string) => () => {
        outcome = how
      }
      command.then(ended('answered'), ended('failed'))
      await within(boundMs * 1.6, 'an answer or an error', () => outcome !== '')
      return outcome
    }
    const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

    for (const end of ['silence', 'cut', 'refuse'] as const)
      test(`the connection: ${end}`, async () => {
        const server = await startRedis()
        const relay = await Relay.open(server.port)
        const { app } = await build({ host: '127.0.0.1', port: relay.port, commandTimeoutMs: boundMs })
        const client = app.redis as Redis
        assert.equal(await bounded(client.set('k', 1)), 'answered')
        const asked: Promise<string>[] = []
        for (let turn = 0; turn < 25; turn++) {
          if (turn === 5) relay[end]()
          // Twice at first: one command waits for its answer while the next one comes.
          asked.push(bounded(client.get('k')), bounded(client.incr('n')))
          await pause(boundMs / 10)
          // Stopped, and then killed: connections that hung are refused.
          if (turn === 18 && end === 'silence') relay.refuse()
        }
        const outcomes = await Promise.all(asked)
        assert.ok(outcomes.includes('failed'))
        await relay.restore()
        await until(() => client.ping(), { what: 'the connection' })
        assert.equal(await bounded(client.get('k')), 'answered')
      })
  })

  test('a process that stood still takes the answers that came meanwhile', async () => {
    const server = await startRedis()
    const { app } = await build({ url: server.url, commandTimeoutMs: 300 })
    await app.ready()
    const client = app.redis as Redis
    // While it waits longer because it stood still, it stands still again.
    for (const sent of [true, false, true, true, false, false]) {
      const answers = Promise.allSettled(Array.from({ length: 20 }, () => client.set('k', 'v')))
      // Before the commands have left, and after.
      if (sent) await new Promise((resolve) => setImmediate(resolve))
      // Without a turn for this process, and without work for the machine.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 700)
      for (const { status } of await answers) assert.equal(status, 'fulfilled')
      assert.equal(client.status, 'ready')
    }
  })

  test('silent from the start: the boot goes on', async () => {
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
