import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { type Child, launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { listens, project, withPlugin } from '../cli/up/apps.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'

const pm2Folder = dirname(createRequire(import.meta.url).resolve('pm2/package.json'))
const shipped = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8')

/** Runs `pm2 start` without a file in a folder with the shipped files, two processes. */
class Start {
  readonly #home = temporaryFolder('pm2')
  readonly #env: Record<string, string | undefined>
  readonly url: string
  #daemon: Child | undefined

  static async with(env: Record<string, string | undefined>, ...args: string[]): Promise<Start> {
    const start = new Start(await freePort(), env)
    await start.#run(args)
    return start
  }

  private constructor(port: number, env: Record<string, string | undefined>) {
    this.url = `http://127.0.0.1:${port}`
    this.#env = {
      PM2_HOME: this.#home,
      PM2_DISCRETE_MODE: 'true',
      PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}`,
      PORT: String(port),
      NODE_TEST_CONTEXT: undefined,
      NODE_ENV: undefined,
      REDIS_URL: undefined,
      ...env,
    }
  }

  async #run(args: readonly string[]): Promise<void> {
    const cwd = project({
      'app.ts': withPlugin + listens,
      'ecosystem.config.js': shipped('ecosystem.config.js'),
      'ecosystem.config.cjs': shipped('ecosystem.config.cjs')
        .replaceAll('./src/app/main.ts', './app.ts')
        .replace("instances: 'max'", 'instances: 2'),
    })
    // The daemon that the command line would start, as a child of this process.
    this.#daemon = launch(process.execPath, [join(pm2Folder, 'lib/Daemon.js')], { env: this.#env })
    await until(() => existsSync(join(this.#home, 'rpc.sock')), { what: 'the daemon' })
    // It waits for processes that never become ready, so its end is not awaited.
    launch(process.execPath, [join(pm2Folder, 'bin/pm2'), 'start', ...args], { env: this.#env, cwd })
  }

  get errors(): string {
    const file = join(this.#home, 'logs/fleet-error.log')
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop()
  }
}

describe('pm2 start, without a file', { concurrency: 3 }, () => {
  test('is production, which is rejected without Redis', async () => {
    const pm2 = await Start.with({})
    await until(() => /in-memory state in production: set REDIS_URL/.test(pm2.errors))
    await assert.rejects(fetch(pm2.url))
    await pm2.stop()
  })

  test('rejects two processes with separate memory in development, too', async () => {
    const pm2 = await Start.with({}, '--env', 'development')
    await until(() => /set REDIS_URL, because each of 2 processes/.test(pm2.errors))
    await pm2.stop()
  })

  test('serves with Redis and secrets', async () => {
    const redis = await startRedis()
    const secret = randomBytes(32).toString('hex')
    const pm2 = await Start.with({ REDIS_URL: redis.url, SESSION_SECRET: secret, JWT_SECRET: secret })
    const ids = new Set<string | null>()
    await until(
      async () => {
        const response = await fetch(`${pm2.url}/ready`, { headers: { connection: 'close' } })
        if (response.ok) ids.add(response.headers.get('x-instance-id'))
        return ids.size === 2
      },
      { what: 'both processes' },
    )
    await pm2.stop()
  })
})
