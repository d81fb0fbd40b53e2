import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { sendRequest } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import type { Build } from './fixtures/app.ts'

const app = new URL('fixtures/app.ts', import.meta.url).pathname
const fleet = new URL('../../src/cli/main.ts', import.meta.url)

/** A release folder whose program can be replaced by another build. */
export class Release {
  readonly folder: string = temporaryFolder('release')
  readonly file: string = join(this.folder, 'app.ts')
  readonly orders: string = join(this.folder, 'orders')
  readonly control: string = join(this.folder, 'control.sock')

  constructor(version = '1') {
    appendFileSync(this.orders, '')
    this.deploy({ version })
  }

  deploy(build: Build): void {
    const options = JSON.stringify({ orders: this.orders, ...build })
    this.write(`import { serve } from ${JSON.stringify(app)}\nawait serve(${options})\n`)
  }

  /** Replaces the app by any program. */
  write(source: string): void {
    writeFileSync(this.file, source)
  }
}

export interface Group extends App {
  readonly port: number
}

/** Runs the real command line in a separate process. */
export function fleetCommand(args: readonly string[], env: Record<string, string | number | undefined> = {}): App {
  return forkApp(fleet, { args, env })
}

/** Starts `fleet start` for a release and waits until it serves. */
export async function startGroup(
  { file, control }: Release,
  args: readonly string[],
  env: Record<string, string | number | undefined> = {},
): Promise<Group> {
  const port = await freePort()
  const started = fleetCommand(['start', file, '--control', control, ...args], {
    PORT: port,
    INSTANCE_ID: 'app',
    ...env,
  })
  const group = Object.assign(started, { port })
  await until(async () => group.ended ?? (await sendRequest(port, 'GET', '/')), { what: 'a response from the group' })
  if (group.ended) throw new Error(group.stderr)
  return group
}

/** The log lines with this message. */
export function logged(group: App, msg: string): Record<string, unknown>[] {
  return group.stdout
    .split('\n')
    .filter((line) => line.startsWith('{"level"'))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => line.msg === msg)
}
