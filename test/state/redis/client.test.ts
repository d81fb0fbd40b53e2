import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { describe, type TestContext, test } from 'node:test'
import { type Cluster, Redis } from 'ioredis'
import { addressFrom, close, connect, ready, watch } from '../../../src/state/redis/client.ts'
import { checkRedis, watchFailures } from '../../../src/state/redis/health.ts'
import { until } from '../../helpers/until.ts'

describe('a client', () => {
  const address = { host: '127.0.0.1', port: 1 }
  const optionsOf = (t: TestContext, given: object = {}, hasDeadlines = true) => {
    const { client } = connect({ ...address, commandTimeoutMs: 500, ...given }, () => hasDeadlines) ?? assert.fail()
    client.on('error', () => {})
    t.after(() => client.disconnect())
    return (client as Redis).options
  }

  test('sends each command once and at once, and leaves its time limit to deadlines.ts', (t) => {
    const { commandTimeout, socketTimeout, ...options } = optionsOf(t)
    assert.partialDeepStrictEqual(options, {
      ...{ enableOfflineQueue: false, maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false },
      connectTimeout: 1_000,
    })
    assert.deepEqual([commandTimeout, socketTimeout], [undefined, undefined])
    const slow = optionsOf(t, { commandTimeoutMs: 3_000 }, false)
    assert.deepEqual([slow.commandTimeout, slow.socketTimeout, slow.connectTimeout], [3_000, 3_000, 3_000])
  })

  const account = { username: 'fleet', password: 'sesame', tls: true }

  test('connects to the server, as the user and with the TLS that the options name', (t) => {
    assert.partialDeepStrictEqual(optionsOf(t, account), { ...address, ...account, tls: {} })
    const { tls, ...plain } = optionsOf(t, { tls: false })
    assert.deepEqual([tls, plain.username, plain.password], [undefined, null, null])
    const own = { servername: 'cache' }
    assert.deepEqual(optionsOf(t, { tls: own }).tls, own)
    const url = (given: object) => optionsOf(t, { host: undefined, port: undefined, ...given })
    const ofOption = url({ url: 'redis://fleet@127.0.0.1:1', password: 'sesame' })
    assert.partialDeepStrictEqual(ofOption, { ...address, username: 'fleet', password: 'sesame' })
    assert.equal(url({ url: 'redis://:own@127.0.0.1:1', password: 'sesame' }).password, 'own')
    assert.deepEqual(url({ url: 'rediss://127.0.0.1:1' }).tls, {})
    assert.partialDeepStrictEqual(url({ host: '127.0.0.9' }), { host: '127.0.0.9', port: 6_379 })
  })

  test('of a Cluster or a sentinel’s primary has the options of every other', (t) => {
    const common = { ...account, tls: {}, enableOfflineQueue: false, maxRetriesPerRequest: 0, connectTimeout: 1_000 }
    const open = (given: object) => {
      const { client } = connect({ ...account, commandTimeoutMs: 500, ...given }, () => true) ?? assert.fail()
      client.on('error', () => {})
      t.after(() => close(client, 1))
      return client.options as Record<string, unknown>
    }
    const { redisOptions, enableOfflineQueue, slotsRefreshTimeout } = open({ cluster: ['127.0.0.1:1'] })
    assert.partialDeepStrictEqual(redisOptions, common)
    assert.deepEqual([enableOfflineQueue, slotsRefreshTimeout], [false, 1_000])
    assert.partialDeepStrictEqual(open({ sentinels: 'shop@127.0.0.1:1' }), common)
  })

  test('is where the environment says', () => {
    const named = { cluster: ['a:1', 'b:2'], sentinels: 'shop@a:1', url: 'redis://a', host: 'a', port: 1 }
    const env = {
      ...{ REDIS_CLUSTER: ['a:1', 'b:2'], REDIS_SENTINELS: 'shop@a:1' },
      ...{ REDIS_URL: 'redis://a', REDIS_HOST: 'a', REDIS_PORT: 1 },
    }
    assert.deepEqual(addressFrom(env as never), named)
  })

  test('reconnects after 25 ms to 2 s, at different times', (t) => {
    const { retryStrategy } = optionsOf(t)
    for (const [random, expected] of [
      [0, [25, 50, 800, 1_000, 1_000]],
      [1, [50, 100, 1_600, 2_000, 2_000]],
    ] as const) {
      t.mock.method(Math, 'random', () => random)
      assert.deepEqual(
        [1, 2, 6, 7, 100].map((times) => retryStrategy?.(times)),
        expected,
      )
    }
  })

  test('reconnects if the server is read-only, at most every 2 s', (t) => {
    let now = 10_000
    t.mock.method(performance, 'now', () => now)
    const { reconnectOnError } = optionsOf(t)
    const asked = ['ERR x', 'READONLY x', 'READONLY x'].map((text) => reconnectOnError?.(new Error(text)))
    assert.deepEqual(asked, [false, true, false])
    now += 1_999
    assert.equal(reconnectOnError?.(new Error('READONLY x')), false)
    now += 1
    assert.equal(reconnectOnError?.(new Error('READONLY x')), true)
  })

  test('of a Cluster follows redirections for the time of a command', (t) => {
    const { client, kind } = connect({ cluster: ['127.0.0.1:1'], commandTimeoutMs: 450 }) ?? assert.fail()
    client.on('error', () => {})
    t.after(() => client.disconnect())
    assert.deepEqual([kind, (client as Cluster).options.maxRedirections], ['cluster', 6])
  })

  const sentinels = 'shop@127.0.0.1:1,127.0.0.1:2'
  for (const [what, given] of Object.entries({
    single: address,
    sentinel: { sentinels },
    cluster: { cluster: ['127.0.0.1:1'] },
  }))
    test(`ends the connection of a command without a reply in time (${what})`, async () => {
      const { client, kind } = connect({ ...given, commandTimeoutMs: 20 }, () => true) ?? assert.fail()
      client.on('error', () => {})
      await close(client, 1)
      const node = kind === 'cluster' ? new Redis({ lazyConnect: true }) : (client as Redis)
      if (kind === 'cluster') client.emit('+node', node)
      else await until(() => client.status === 'end')
      const ended = Promise.withResolvers<Error>()
      const stream = { writable: true, cork() {}, uncork() {}, write() {}, destroy: ended.resolve }
      Object.assign(node, { status: 'ready', stream, condition: { select: 0 } })
      node.get('a').catch(() => {})
      assert.equal((await ended.promise).message, 'no reply within 20 ms')
      Object.assign(node, { status: 'end' })
    })

  test('asks sentinels for the named primary, for as long as it connects', (t) => {
    const { client, kind } = connect({ sentinels, commandTimeoutMs: 1_500 }) ?? assert.fail()
    client.on('error', () => {})
    t.after(() => close(client, 1))
    const { name, sentinels: asked, sentinelCommandTimeout } = (client as Redis).options
    const nodes = [1, 2].map((port) => ({ host: '127.0.0.1', port }))
    assert.deepEqual([kind, name, asked, sentinelCommandTimeout], ['sentinel', 'shop', nodes, 1_500])
  })
})

describe('the connection', () => {
  class Client extends EventEmitter {
    status = 'ready'
    readonly calls: string[] = []
    quit = async (): Promise<void> => void this.calls.push('quit')
    disconnect = (): void => void this.calls.push('disconnect')
  }

  test('is logged once when it is lost and once when it is back', () => {
    const client = new Client()
    const lines: unknown[] = []
    watch(
      client as never,
      { error: (details: object) => lines.push(details), info: (text: string) => lines.push(text) } as never,
    )
    client.emit('ready')
    client.emit('error', Object.assign(new Error(''), { code: 'ECONNREFUSED' }))
    client.emit('error', new Error('again'))
    client.emit('ready')
    client.emit('ready')
    client.emit('error', new Error('no route'))
    assert.deepEqual(lines, [{ reason: 'ECONNREFUSED' }, 'redis: connected', { reason: 'no route' }])
  })

  test('is ready, or not in time', async () => {
    const client = Object.assign(new Client(), { status: 'connecting' })
    assert.equal(await ready(client as never, 1), false)
    const waiting = ready(client as never, 60_000)
    client.status = 'ready'
    client.emit('ready')
    assert.deepEqual([await waiting, await ready(client as never, 0)], [true, true])
  })

  test('is closed after QUIT, at once if it is not ready, and not again', async () => {
    for (const [status, calls] of [
      ['ready', ['quit', 'disconnect']],
      ['connecting', ['disconnect']],
      ['end', []],
    ] as const) {
      const client = Object.assign(new Client(), { status })
      await close(client as never, 60_000)
      assert.deepEqual(client.calls, calls, status)
    }
    const silent = Object.assign(new Client(), { quit: () => new Promise(() => {}) })
    await close(silent as never, 1)
    assert.deepEqual(silent.calls, ['disconnect'])
  })
})

describe('the check of Redis', () => {
  const node = (info: string | Error, ping: () => Promise<string> = async () => 'PONG') => ({
    ping,
    async info(section: string) {
      assert.equal(section, 'memory')
      if (typeof info === 'string') return info
      throw info
    },
  })
  const memory = (used: number, limit: number, policy = 'noeviction'): string =>
    `# Memory\r\nused_memory:${used}\r\nused_memory_rss:9\r\nmaxmemory:${limit}\r\nmaxmemory_policy:${policy}\r\n`
  const check = (client: object): Promise<unknown> => checkRedis(client as never)

  test('fails above the memory limit of a server that then rejects writes', async () => {
    for (const passes of [memory(100, 100), memory(101, 0), memory(101, 100, 'allkeys-lru'), 'unknown'])
      await check(node(passes))
    await assert.rejects(check(node(memory(101, 100))), {
      code: 'FLEET_ERR_STATE_FULL',
      message: /uses 101 of 100 bytes/,
    })
    const nodes = (role: string) => (role === 'master' ? [node(memory(1, 100)), node(memory(101, 100))] : [])
    await assert.rejects(check({ ...node(''), nodes }), { code: 'FLEET_ERR_STATE_FULL' })
  })

  test('fails without a reply, except if the user may not ask', async () => {
    await check(node(new Error('NOPERM no permission')))
    await assert.rejects(check(node(new Error('LOADING'))), { message: 'LOADING' })
    const lost = async () => Promise.reject(new Error("Stream isn't writeable and enableOfflineQueue options is false"))
    await assert.rejects(check(node(memory(1, 2), lost)), { message: 'not connected' })
  })

  test('fails with a command that the server cannot serve, and with no other', async () => {
    const client = Object.assign(new EventEmitter(), { sendCommand: (_command: unknown): unknown => undefined })
    const failed: string[] = []
    watchFailures(client as never, true, ({ message }) => failed.push(message))
    const run = async (message: string, name = 'ReplyError'): Promise<void> => {
      const promise = Promise.reject(Object.assign(new Error(message), { name }))
      client.sendCommand({ promise })
      await promise.catch(() => {})
    }
    const states = [
      'READONLY',
      'NOREPLICAS',
      'LOADING',
      'MASTERDOWN',
      'CLUSTERDOWN',
      'MISCONF',
      'BUSY',
      'TRYAGAIN',
      'OOM',
    ]
    for (const state of states) await run(`${state} x`)
    await run('fleet-OOM x')
    await run('Connection is closed.', 'Error')
    for (const other of ['WRONGTYPE x', 'ERR BUSY x', 'BUSYKEY x']) await run(other)
    client.emit('close')
    client.emit('node error', new Error('of a node'))
    assert.deepEqual(failed, [
      ...states.map((state) => `${state} x`),
      ...['fleet-OOM x', 'Connection is closed.', 'the connection was lost', 'of a node'],
    ])
  })

  test('notices lost connections only of a client of the app', () => {
    const client = Object.assign(new EventEmitter(), { sendCommand() {} })
    const { sendCommand } = client
    const failed: string[] = []
    watchFailures(client as never, false, ({ message }) => failed.push(message))
    client.emit('close')
    assert.deepEqual([failed, client.sendCommand], [['the connection was lost'], sendCommand])
  })
})
