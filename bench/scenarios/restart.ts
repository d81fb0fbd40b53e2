import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { startRedis } from '../../src/cli/up/redis.ts'
import { type Deploy, fleet, pm2, watt } from '../deployments.ts'
import type { Machine } from '../machine.ts'
import { residentMemory } from '../processes.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'
import { fleetEnv, warmUpSeconds } from '../servers.ts'
import { Visitors } from '../visitors.ts'

/** Before and after a restart or a kill, under load; ms. */
const aroundMs = 1_000

/** Each round starts the app, measures it, restarts it, kills it and stops it. */
const subject = (name: string, deploy: Deploy): Subject => ({
  name,
  async open(machine: Machine): Promise<Open> {
    const redis = await startRedis({ appendonly: false })
    const ledger = join(temporaryFolder('ledger'), 'ledger')
    const app = await deploy(machine, { ...fleetEnv, NODE_ENV: 'production', REDIS_URL: redis.url, LEDGER: ledger })
    const { port } = app.front
    const visitors = new Visitors(port, ledger)
    const under = async (event: () => Promise<void>) =>
      visitors.during(async () => {
        await sleep(aroundMs)
        await event()
        await sleep(aroundMs)
      })
    return {
      async round(seconds): Promise<Figures> {
        const began = performance.now()
        await app.start()
        await visitors.until(401)
        const boot = (performance.now() - began) / 1000
        await sleep(2_000)
        const rss = residentMemory(app.pids())
        const requests = (await visitors.logIn(20)).map(({ cookie }) => ({ path: '/me', headers: { cookie } }))
        await machine.load({ port, connections: 20, requests, seconds: warmUpSeconds })
        const { cpu } = await machine.measure({ port, connections: 20, requests, seconds, rate: 300 }, app.pids())
        const overlap = await visitors.overlap()
        let took = 0
        const restart = await under(async () => {
          const from = performance.now()
          await app.restart()
          took = (performance.now() - from) / 1000
        })
        const kill = await under(() => app.kill())
        await app.stop()
        return {
          get: restart.GET,
          post: restart.POST,
          killGet: kill.GET,
          killPost: kill.POST,
          twice: restart.twice + kill.twice,
          sessions: restart.sessions + kill.sessions,
          overlap,
          took,
          boot,
          rss,
          cpu,
        }
      },
      async close() {
        visitors.close()
        await app.stop().catch(() => undefined)
        await app.front.stop()
        await redis.stop()
      },
    }
  },
})

const ours = 'fastify-fleet, two instances'

const scenario: Scenario = {
  name: 'restart',
  title: 'Restarts, kills and sessions of a small app',
  about:
    'A login whose session counts, a GET and a POST, with two processes or workers behind nginx and sessions in Redis. ' +
    '100 requests per second, half of them POSTs, in 100 sessions, while the app is restarted as its documentation says, and ' +
    'while a process is killed by SIGKILL. Sessions are wrong if their login or count is afterwards. Changes overlap if two ' +
    'requests of one session set different fields at the same time. Boot is the time from the command to the first response through nginx. ' +
    'Memory is that of the idle app with what manages its processes, CPU that of a GET. fastify-fleet registers all of its plugins, the ' +
    'others only sessions. The peers are @fastify/session and connect-redis with the settings of their READMEs, close-with-grace, ' +
    'pm2 with `wait_ready`, and nginx with `keepalive 32`. Watt has its workers in one process, which is started again when it is killed.',
  metrics: {
    get: { title: 'failed GETs/restart', digits: 0 },
    post: { title: 'failed POSTs/restart', digits: 0 },
    killGet: { title: 'failed GETs/kill', digits: 0 },
    killPost: { title: 'failed POSTs/kill', digits: 0 },
    twice: { title: 'executed twice', digits: 0 },
    sessions: { title: 'sessions wrong', digits: 0 },
    overlap: { title: '% of overlapping changes lost', digits: 0 },
    took: { title: 'restart s' },
    boot: { title: 'boot s' },
    rss: { title: 'memory MiB', digits: 0 },
    cpu: { title: 'CPU µs/request', digits: 0 },
  },
  subjects: [
    subject('@fastify/session, pm2 with two processes', pm2),
    subject('@fastify/session, Watt with two workers', watt),
    subject(ours, fleet),
  ],
  bars: Object.entries({
    get: 'GETs that fail in a rolling restart',
    post: 'POSTs that fail in a rolling restart',
    killGet: 'GETs that fail when an instance is killed',
    twice: 'POSTs executed twice in a restart or kill',
    sessions: 'sessions lost or wrong after a restart or kill',
    overlap: '% of overlapping session changes lost',
  }).map(([metric, what]) => ({ what, subject: ours, metric, is: 'exactly' as const, limit: 0 })),
}
export default scenario
