import '../helpers/cleanup.ts'
import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { type Child, launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { until } from '../helpers/until.ts'

const folder = dirname(createRequire(import.meta.url).resolve('pm2/package.json'))
/** The command line of pm2. */
export const pm2Program: string = join(folder, 'bin/pm2')
export const shippedConfig: string = new URL('../../ecosystem.config.cjs', import.meta.url).pathname

interface Listed {
  pid: number
  pm_id: number
  pm2_env: { status: string; restart_time: number }
}

/** A separate pm2 in its own folder, stopped at the end of the file at the latest. */
export class Pm2 {
  readonly home: string = temporaryFolder('pm2')
  readonly env: Record<string, string | undefined>
  #daemon: Child | undefined

  constructor(env: Record<string, string | undefined> = {}) {
    this.env = {
      PM2_HOME: this.home,
      PM2_DISCRETE_MODE: 'true',
      // pm2 runs the `node` on PATH for its version.
      PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}`,
      NODE_TEST_CONTEXT: undefined,
      ...env,
    }
  }

  /** Starts the daemon that the command line would start, as a child of this process. */
  async up(): Promise<void> {
    this.#daemon = launch(process.execPath, [join(folder, 'lib/Daemon.js')], { env: this.env })
    await until(() => existsSync(join(this.home, 'rpc.sock')), { what: 'the daemon' })
  }

  command(args: readonly string[], cwd?: string): Child {
    return launch(process.execPath, [pm2Program, ...args], { env: this.env, ...(cwd && { cwd }) })
  }

  async run(...args: readonly string[]): Promise<string> {
    const command = this.command(args)
    assert.equal((await command.exit).code, 0, command.stdout + command.stderr)
    return command.stdout
  }

  async list(): Promise<Listed[]> {
    return JSON.parse(await this.run('jlist')) as Listed[]
  }

  async pids(): Promise<number[]> {
    return (await this.list()).map(({ pid }) => pid)
  }

  /** Number of restarts of all processes. */
  async restarts(): Promise<number> {
    return (await this.list()).reduce((sum, { pm2_env }) => sum + pm2_env.restart_time, 0)
  }

  /** What the processes of `fleet` have written to stderr. */
  get errors(): string {
    const file = join(this.home, 'logs/fleet-error.log')
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }

  /** Ends the processes, then the daemon. */
  async down(): Promise<void> {
    if (this.#daemon?.ended === undefined) await this.run('kill')
    await this.#daemon?.exit
  }

  /** Ends the daemon only. */
  async stop(): Promise<void> {
    await this.#daemon?.stop()
  }
}

/** Writes the shipped ecosystem file with other values for its app, to run a program with two processes. */
export function writeConfig(file: string, change: { script: string; env: object } & Record<string, unknown>): void {
  writeFileSync(
    file,
    `const [app] = require(${JSON.stringify(shippedConfig)}).apps
const { env, ...change } = ${JSON.stringify({ instances: 2, ...change })}
const version = process.env.FLEET_VERSION === undefined ? {} : { FLEET_VERSION: process.env.FLEET_VERSION }
module.exports = { apps: [{ ...app, ...change, env: { ...app.env, ...env, ...version } }] }
`,
  )
}
