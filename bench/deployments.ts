import { existsSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Child, temporaryFolder } from '../src/cli/up/child.ts'
import { freePort } from '../src/cli/up/port.ts'
import { nginx } from './fronts.ts'
import type { Machine, Program } from './machine.ts'
import { family } from './processes.ts'
import { shippedNginx } from './shipped-fronts.ts'

type Env = Readonly<Record<string, string>>

/** The app of `programs/shop.js` with two processes or workers behind nginx, which stays when the app is replaced. */
export interface Deployment {
  readonly front: Program
  /** Of the app, with what manages its processes. */
  pids(): number[]
  start(): Promise<void>
  /** Replaces every process in the way that its documentation describes. */
  restart(): Promise<void>
  /** Kills a process, and waits until the next one is ready. */
  kill(): Promise<void>
  stop(): Promise<void>
}

export type Deploy = (machine: Machine, env: Env) => Promise<Deployment>

const at = (path: string): string => new URL(path, import.meta.url).pathname
const attempt = async (what: string, isDone: () => boolean | Promise<boolean>): Promise<void> => {
  for (const began = performance.now(); !(await isDone()); await sleep(20)) {
    if (performance.now() - began > 60_000) throw new Error(`Error: ${what}: not within a minute`)
  }
}
const responds = (url: string, status: number): Promise<boolean> =>
  fetch(url).then(
    async (response) => {
      await response.arrayBuffer()
      return response.status === status
    },
    () => false,
  )
/** Without a session `/me` responds 401. */
const serves = (port: number): Promise<boolean> => responds(`http://127.0.0.1:${port}/me`, 401)

/** pm2 in cluster mode with two processes on one port, behind nginx. */
export const pm2: Deploy = async (machine, env) => {
  const port = await freePort()
  const home = temporaryFolder('pm2')
  const config = join(home, 'ecosystem.config.cjs')
  const app = {
    name: 'shop',
    script: at('programs/shop-pm2.js'),
    exec_mode: 'cluster',
    instances: 2,
    // "Graceful start" of its documentation. SIGKILL comes later than the 10 s of close-with-grace.
    wait_ready: true,
    listen_timeout: 10_000,
    kill_timeout: 12_000,
    env: { ...env, PORT: String(port) },
  }
  writeFileSync(config, `module.exports = ${JSON.stringify({ apps: [app] })}`)
  const own = {
    PM2_HOME: home,
    PM2_DISCRETE_MODE: 'true',
    PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}`,
  }
  const daemon = machine.run(process.execPath, [at('node_modules/pm2/lib/Daemon.js')], { env: own })
  await attempt('the daemon of pm2', () => existsSync(join(home, 'rpc.sock')))
  const run = async (...args: string[]): Promise<string> => {
    const child = machine.run(process.execPath, [at('node_modules/pm2/bin/pm2'), ...args], { env: own })
    const { code } = await child.exit
    if (code !== 0) throw new Error(`Error: pm2 ${args[0]}: ${child.stdout}${child.stderr}`)
    return child.stdout
  }
  const areOnline = async (): Promise<boolean> => {
    const list = JSON.parse(await run('jlist')) as { pm2_env: { status: string } }[]
    return list.length === 2 && list.every(({ pm2_env }) => pm2_env.status === 'online')
  }
  return {
    front: await nginx(machine, [port], 'keepalive 32;'),
    pids: () => family(daemon.pid),
    start: async () => {
      await run('start', config)
      await attempt('both processes', () => serves(port))
    },
    restart: async () => {
      await run('reload', 'shop')
      await attempt('both processes', areOnline)
    },
    kill: async () => {
      const [victim = 0] = family(daemon.pid).slice(1)
      process.kill(victim, 'SIGKILL')
      await attempt('the next process', async () => !family(daemon.pid).includes(victim) && (await areOnline()))
    },
    stop: async () => void (await run('delete', 'all')),
  }
}

/** Watt with two workers, behind nginx. Its process is started again when it is killed, as a container would be. */
export const watt: Deploy = async (machine, env) => {
  const port = await freePort()
  const cli = at('node_modules/wattpm/bin/cli.js')
  let child: Child | undefined
  const start = async (): Promise<void> => {
    const options = { cwd: at('programs/watt-shop'), env: { ...env, PORT: String(port) } }
    child = machine.run(process.execPath, [cli, 'start'], options)
    await attempt('Watt', () => serves(port))
  }
  return {
    front: await nginx(machine, [port], 'keepalive 32;'),
    pids: () => family(child?.pid ?? 0),
    start,
    restart: async () => {
      const restarting = machine.run(process.execPath, [cli, 'restart', String(child?.pid)])
      const { code } = await restarting.exit
      if (code !== 0) throw new Error(`Error: wattpm restart: ${restarting.stdout}${restarting.stderr}`)
    },
    kill: async () => {
      await child?.kill('SIGKILL')
      await start()
    },
    stop: async () => void (await child?.stop()),
  }
}

/** Two instances behind the shipped nginx, replaced one after the other: SIGTERM, and the next one when it has exited. */
export const fleet: Deploy = async (machine, env) => {
  const ports = [await freePort(), await freePort()]
  const instances = new Map<number, Child>()
  const start = async (port: number): Promise<void> => {
    const options = { env: { ...env, PORT: String(port), TRUST_PROXY: 'loopback' } }
    instances.set(port, machine.run(process.execPath, [at('programs/shop-fleet.js')], options))
    await attempt('the instance', () => responds(`http://127.0.0.1:${port}/ready`, 200))
  }
  return {
    front: await shippedNginx(
      machine,
      ports.map((port) => ({ port, agent: 0 })),
    ),
    pids: () => [...instances.values()].map(({ pid }) => pid),
    start: async () => void (await Promise.all(ports.map(start))),
    restart: async () => {
      for (const port of ports) {
        await instances.get(port)?.kill('SIGTERM')
        await start(port)
      }
    },
    kill: async () => {
      const [port = 0] = ports
      await instances.get(port)?.kill('SIGKILL')
      await start(port)
    },
    stop: async () => void (await Promise.all([...instances.values()].map((child) => child.stop(20_000)))),
  }
}
