import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { describe, it } from 'node:test'
import { poolSchema } from '../../src/base/internals/prisma.ts'
import { databaseError, type PoolsOptions, pools } from '../../src/database/index.ts'

type Callback = (error?: Error, client?: object, release?: () => void) => void

/** The `pg` module without a server. */
function fakePg() {
  const configs: Record<string, unknown>[] = []
  const clients: Record<string, unknown>[] = []
  /** URLs that were connected to, in order, and what each server does. */
  const connected: string[] = []
  const servers: Record<string, { error?: Error; standby?: boolean; queryError?: Error; responds?: Promise<void> }> = {}
  let ended = 0

  class Client extends EventEmitter {
    readonly #url: string
    constructor(config: { connectionString: string }) {
      super()
      this.#url = config.connectionString
      clients.push(config)
    }
    get #server() {
      return servers[new URL(this.#url).hostname] ?? {}
    }
    connect(callback: Callback): void {
      connected.push(new URL(this.#url).hostname)
      const { error, responds = Promise.resolve() } = this.#server
      responds.then(() => callback(error))
    }
    async query(): Promise<{ rows: object[] }> {
      if (this.#server.queryError) throw this.#server.queryError
      return { rows: [{ standby: this.#server.standby === true }] }
    }
    async end(): Promise<void> {
      ended++
    }
  }

  class Pool extends EventEmitter {
    idleCount = 0
    totalCount = 0
    waitingCount = 0
    ending = false
    ends = 0
    readonly config: Record<string, unknown> & { Client: new (config: object) => Client }
    constructor(config: Pool['config']) {
      super()
      this.config = config
      configs.push(config)
    }
    connect(callback: Callback): void {
      const client = new this.config.Client({ port: 1 })
      client.connect((error) => (error ? callback(error) : callback(undefined, client, () => {})))
    }
    async end(): Promise<void> {
      this.ends++
    }
  }
  return { driver: { Client, Pool }, configs, clients, connected, servers, ended: () => ended }
}

async function open(options: PoolsOptions = {}, url = 'postgresql://a/shop', name?: string) {
  const pg = fakePg()
  const all = await pools({ driver: pg.driver, ...options })
  const pool = all.open(url, name) as InstanceType<(typeof pg.driver)['Pool']>
  return { ...pg, pools: all, pool, config: pg.configs[0] ?? {} }
}
const connect = (pool: { connect: (callback: Callback) => void }): Promise<object | undefined> =>
  new Promise((resolve, reject) => pool.connect((error, client) => (error ? reject(error) : resolve(client))))
const busy = { code: 'FLEET_ERR_DATABASE_BUSY', statusCode: 503, headers: { 'retry-after': '1' } }

describe('the queries that wait for a connection', () => {
  it('are at most maxWaiting, plus as many as connections are free', async () => {
    const { pool, pools: all } = await open({ max: 4, maxWaiting: 3 })
    const admitted = async (waiting: number, total: number, idle: number): Promise<boolean> => {
      Object.assign(pool, { waitingCount: waiting, totalCount: total, idleCount: idle })
      return connect(pool).then(
        () => true,
        (error) => {
          assert.equal(error.code, busy.code)
          return false
        },
      )
    }
    assert.deepEqual([await admitted(2, 4, 0), await admitted(3, 4, 0)], [true, false])
    assert.deepEqual([await admitted(3, 4, 1), await admitted(4, 4, 1)], [true, false], 'one is idle')
    assert.deepEqual([await admitted(4, 2, 0), await admitted(5, 2, 0)], [true, false], 'two can be opened')
    assert.equal(all.states[0]?.refused, 3)
  })

  it('are rejected with 503 and Retry-After: 1 at once, naming the pool and the limit', async () => {
    const { pool, connected } = await open({ max: 1, maxWaiting: 0 }, undefined, 'reports')
    Object.assign(pool, { totalCount: 1 })
    await assert.rejects(connect(pool), { ...busy, message: /reports: 0 queries are waiting/ })
    assert.deepEqual(connected, [])
  })

  it('are rejected in the same way when no connection is free in time, without another try', async () => {
    const url = 'postgresql://a,b/shop?pool_timeout=3'
    const { pool, pools: all, connected, servers } = await open({}, url)
    const cause = new Error('timeout exceeded when trying to connect')
    servers.a = { error: cause }
    await assert.rejects(connect(pool), { ...busy, cause, message: /primary: no connection was free within 3000 ms/ })
    assert.deepEqual([connected, all.states[0]?.refused], [['a'], 1])
  })
})

describe('the limits of a pool', () => {
  const limits = ({
    max,
    connectionTimeoutMillis,
    idleTimeoutMillis,
    query_timeout,
    statement_timeout,
  }: Record<string, unknown>) => [max, connectionTimeoutMillis, idleTimeoutMillis, query_timeout, statement_timeout]

  it('are the documented ones by default; a hanging server has a second more than the statement', async () => {
    assert.deepEqual(limits((await open()).config), [10, 2_000, 30_000, 11_000, 10_000])
    const { keepAlive, allowExitOnIdle } = (await open()).config
    assert.deepEqual([keepAlive, allowExitOnIdle], [true, true])
  })

  it('follow the options, and the URL before them, in seconds for time to connect', async () => {
    const options = { max: 3, connectTimeoutMs: 700, idleTimeoutMs: 0, statementTimeoutMs: 900 }
    assert.deepEqual(limits((await open(options)).config), [3, 700, 0, 1_900, 900])
    const query = 'connection_limit=7&pool_timeout=4&connect_timeout=5&statement_timeout=600'
    assert.deepEqual(limits((await open(options, `postgresql://a/shop?${query}`)).config), [7, 4_000, 0, 1_600, 600])
    const connects = (await open(options, 'postgresql://a/shop?connect_timeout=5')).config
    assert.deepEqual(limits(connects), [3, 5_000, 0, 1_900, 900])
  })

  it('bound the wait for a free connection and that for a server apart, if the URL has both', async () => {
    const { pool, config, clients } = await open({}, 'postgresql://a/shop?pool_timeout=30&connect_timeout=3')
    await connect(pool)
    assert.deepEqual([config.connectionTimeoutMillis, clients[0]?.connectionTimeoutMillis], [30_000, 3_000])
  })

  it('behind a pooler are enforced by this process alone, without a second more', async () => {
    const pooled = [undefined, 10_000]
    for (const { config } of [
      await open({ pgbouncer: true }),
      await open({}, 'postgresql://a/shop?pgbouncer=true'),
      await open({ pgbouncer: true }, 'postgresql://a/shop?pgbouncer=false'),
    ])
      assert.deepEqual([config.statement_timeout, config.query_timeout], pooled)
    const { config } = await open({ pgbouncer: false }, 'postgresql://a/shop?pgbouncer=true')
    assert.deepEqual([config.statement_timeout, config.query_timeout], [10_000, 11_000])
  })

  for (const [option, low, high] of [
    ['max', 1, 100],
    ['maxWaiting', 0, 100_000],
    ['connectTimeoutMs', 10, 60_000],
    ['statementTimeoutMs', 10, 3_600_000],
    ['idleTimeoutMs', 0, 3_600_000],
  ] as const)
    it(`${option} is from ${low} to ${high}`, async () => {
      for (const value of [low, high]) await open({ [option]: value })
      for (const value of [low - 1, high + 1, low + 0.5])
        await assert.rejects(open({ [option]: value }), { code: 'FLEET_ERR_OPTION_INVALID' })
    })
})

describe('a pool with several servers', () => {
  const three = 'postgresql://a,b,c/shop?target_session_attrs=read-write'

  it('uses the first that accepts writes, and keeps to it', async () => {
    const { pool, connected, servers, ended } = await open({}, three)
    servers.a = { error: new Error('connect ECONNREFUSED') }
    servers.b = { standby: true }
    assert.ok(await connect(pool))
    assert.ok(await connect(pool))
    assert.deepEqual(connected, ['a', 'b', 'c', 'c'])
    assert.equal(ended(), 1, 'the connection to the standby is closed')
  })

  it('moves on after a failed check, and around the list', async () => {
    const { pool, connected, servers } = await open({}, three)
    servers.a = { queryError: new Error('lost') }
    assert.ok(await connect(pool))
    servers.b = servers.c = { error: new Error('connect ECONNREFUSED') }
    servers.a = {}
    assert.ok(await connect(pool))
    assert.deepEqual(connected, ['a', 'b', 'b', 'c', 'a'])
  })

  it('moves on once when many connections fail at the same time', async () => {
    const { pool, connected, servers } = await open({}, three)
    servers.a = { error: new Error('connect ECONNREFUSED') }
    await Promise.all(Array.from({ length: 5 }, () => connect(pool)))
    assert.deepEqual(connected, [...Array(5).fill('a'), ...Array(5).fill('b')])
  })

  it('does not go back when a connection to an earlier one fails late', async () => {
    const { pool, connected, servers } = await open({}, three)
    const error = new Error('connect ECONNREFUSED')
    const { promise: responds, resolve } = Promise.withResolvers<void>()
    servers.a = { error, responds }
    const late = connect(pool)
    servers.a = servers.b = { error }
    assert.ok(await connect(pool))
    resolve()
    assert.ok(await late)
    assert.deepEqual(connected, ['a', 'a', 'b', 'c', 'c'])
  })

  it('tries each once, and rejects with the last error; standbys count as unavailable', async () => {
    const { pool, connected, servers } = await open({}, three)
    servers.a = servers.b = servers.c = { standby: true }
    const error = await connect(pool).catch((reason: unknown) => reason)
    assert.deepEqual(connected, ['a', 'b', 'c'])
    const translated = databaseError(error) ?? (error as typeof busy)
    assert.deepEqual([translated.code, translated.headers], ['FLEET_ERR_DATABASE_UNAVAILABLE', { 'retry-after': '1' }])
  })

  it('tries no further one after it was closed', async () => {
    const { pool, connected, servers } = await open({}, three)
    servers.a = { error: new Error('connect ECONNREFUSED') }
    pool.ending = true
    await assert.rejects(connect(pool), /ECONNREFUSED/)
    assert.deepEqual(connected, ['a'])
  })

  it('may use a standby unless its URL asks for one that accepts writes', async () => {
    const { pool, connected, servers } = await open({}, 'postgresql://a/shop?target_session_attrs=any')
    servers.a = { standby: true }
    assert.ok(await connect(pool))
    assert.deepEqual(connected, ['a'])
  })
})

describe('the pools of an app', () => {
  it('report connections by name, and the wait of each query', async () => {
    const { pool, pools: all } = await open({ max: 4 })
    all.open('postgresql://b/shop?connection_limit=2', 'replica_1')
    Object.assign(pool, { totalCount: 3, idleCount: 1, waitingCount: 2 })
    assert.deepEqual(all.states, [
      { name: 'primary', max: 4, busy: 2, idle: 1, waiting: 2, refused: 0 },
      { name: 'replica_1', max: 2, busy: 0, idle: 0, waiting: 0, refused: 0 },
    ])
    const waits: string[] = []
    all.onWait = (name, ms) => waits.push(`${name} ${ms >= 0}`)
    await connect(pool)
    await (pool as unknown as { connect(): Promise<object> }).connect()
    assert.deepEqual(waits, ['primary true', 'primary true'])
  })

  it('survive the loss of an idle connection', async () => {
    const { pool } = await open()
    pool.emit('error', new Error('terminating connection due to administrator command'))
  })

  it('have the schema of their URL, which a pooler does not get as a search path', async () => {
    for (const [query, options] of [
      ['schema=shop', '-c search_path="shop"'],
      ['schema=shop&pgbouncer=true', null],
    ] as const) {
      const { pool, clients } = await open({}, `postgresql://a/shop?${query}`)
      await connect(pool)
      const { searchParams } = new URL(String(clients[0]?.connectionString))
      assert.deepEqual(
        [(pool as { [poolSchema]?: string })[poolSchema], searchParams.get('options')],
        ['shop', options],
      )
    }
  })

  it('close together, except those that the app has closed', async () => {
    const { pool, pools: all } = await open()
    const other = all.open('postgresql://b/shop', 'replica_1')
    Object.assign(pool, { ending: true })
    await all.close()
    assert.deepEqual([pool.ends, other.ends], [0, 1])
  })
})

it('survives a server that drops a connection while it is asked whether it accepts writes', async () => {
  const ready = Buffer.from([...[0x52, 0, 0, 0, 8, 0, 0, 0, 0], ...[0x5a, 0, 0, 0, 5, 0x49]])
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => {
      socket.write(ready)
      socket.once('data', () => socket.destroy())
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const pool = await pools()
  const url = `postgresql://a@127.0.0.1:${port}/shop?target_session_attrs=read-write`
  await assert.rejects(pool.open(url).connect(), /Connection terminated unexpectedly/)
  await pool.close()
  server.close()
})
