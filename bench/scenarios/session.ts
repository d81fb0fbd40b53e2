import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { startRedis } from '../../src/cli/up/redis.ts'
import type { Request } from '../generator.ts'
import type { Machine } from '../machine.ts'
import { type Figures, type Open, type Scenario, type Subject, serverMetrics } from '../scenario.ts'
import { fleetEnv, type ServerOptions, warmUpSeconds } from '../servers.ts'

const connections = 50
/** Requests whose commands are counted in each round. */
const counted = 100
const writing = /^(set|getex|expire|pexpire|eval|evalsha|del|unlink|zadd|hset)$/

/** Calls by command since the last count, without keep-alive commands. */
async function commands(redis: Redis): Promise<{ all: number; writes: number }> {
  const stats = (await redis.info('commandstats')).matchAll(/cmdstat_([^:|]+)[^:]*:calls=(\d+)/g)
  await redis.config('RESETSTAT')
  let [all, writes] = [0, 0]
  for (const [, name = '', calls] of stats) {
    if (/^(info|config|ping|hello|client|publish|subscribe)$/.test(name)) continue
    all += Number(calls)
    if (writing.test(name)) writes += Number(calls)
  }
  return { all, writes }
}

/** Waits until no more commands arrive. */
async function silence(redis: Redis): Promise<void> {
  for (let looks = 0; looks < 40; looks++) {
    await delay(25)
    if ((await commands(redis)).all === 0) return
  }
}

/** A session for each connection. */
async function logIn(port: number): Promise<Request[]> {
  const requests: Request[] = []
  for (let i = 0; i < connections; i++) {
    const response = await fetch(`http://127.0.0.1:${port}/login`, { method: 'POST' })
    const cookie = response.headers.getSetCookie()[0]?.split(';', 1)[0]
    if (cookie === undefined) throw new Error(`login gave no cookie: ${response.status} ${await response.text()}`)
    requests.push({ path: '/me', headers: { cookie } })
  }
  return requests
}

/** A program with its own Redis, so that its commands can be counted. */
const subject = (name: string, options: ServerOptions): Subject => ({
  name,
  async open(machine: Machine): Promise<Open> {
    const server = await startRedis({ appendonly: false })
    const redis = new Redis(server.url)
    const env = { ...fleetEnv, REDIS_URL: server.url }
    const program = await machine.program(options.file, { ...options, env })
    const { port, pid } = program
    const requests = await logIn(port)
    await machine.load({ port, connections, requests, seconds: warmUpSeconds })
    const url = `http://127.0.0.1:${port}/me`
    const [{ headers = {} } = {}] = requests
    return {
      async round(seconds): Promise<Figures> {
        const { result: _, ...figures } = await machine.measure({ port, connections, requests, seconds }, [pid])
        // Counted separately: under load, some commands belong to requests that the end of the round interrupted.
        await silence(redis)
        for (let i = 0; i < counted; i++) await (await fetch(url, { headers })).text()
        const { all, writes } = await commands(redis)
        return { ...figures, commands: all / counted, writes: writes / counted }
      },
      async close() {
        await program.stop()
        redis.disconnect()
        await server.stop()
      },
    }
  },
})

const ours = 'fastify-fleet'
const tracked = 'fastify-fleet, tracked in memory'
const floor = 'one pipelined GET and JSON.parse (floor)'
const bare = 'bare Fastify, no session'

const missed = {
  why: 'any addition to bare Fastify costs several times more here than alone, whatever the plugin',
  profile: 'machine.md',
}

const scenario: Scenario = {
  name: 'session',
  title: 'Reading a session',
  about:
    'A route that reads one field of a session in Redis, 50 persistent connections with a session each. fastify-fleet has its defaults: ' +
    'signed cookie, merge of overlapping changes, expiry refreshed once per `touchAfterMs`. The floor does none of that: one ' +
    '`GET` by ioredis with automatic pipelining, and `JSON.parse`.',
  slices: 4,
  metrics: {
    ...serverMetrics,
    commands: { title: 'Redis commands/request', digits: 2 },
    writes: { title: 'of them writes', digits: 2 },
  },
  subjects: [
    subject(bare, { file: 'session-bare.js' }),
    subject(floor, { file: 'session-floor.js' }),
    subject(ours, { file: 'session-fleet.js' }),
    subject(tracked, { file: 'session-fleet.js', args: ['tracked'] }),
    subject('@fastify/session, settings of its README', { file: 'session-fastify.js' }),
    subject('@fastify/session, tuned', { file: 'session-fastify.js', args: ['tuned'] }),
    subject('@fastify/secure-session, in the cookie', { file: 'session-secure.js' }),
    subject('express-session', { file: 'session-express.js' }),
  ],
  bars: [
    {
      what: 'session read over the pipelined floor, CPU per request',
      subject: ours,
      metric: 'cpu',
      over: floor,
      limit: 1.25,
      missed,
    },
    { what: 'session read, Redis commands per request', subject: ours, metric: 'commands', limit: 1, is: 'exactly' },
    { what: 'session read, writes per request', subject: ours, metric: 'writes', limit: 0, is: 'exactly' },
    {
      what: 'tracked session read over bare Fastify, CPU per request',
      subject: tracked,
      metric: 'cpu',
      over: bare,
      limit: 1.4,
      missed,
    },
  ],
}
export default scenario
