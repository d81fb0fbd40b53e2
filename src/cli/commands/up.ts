import { existsSync } from 'node:fs'
import { extname, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { type Command, defineCommand } from '../args.ts'
import type { Output, Progress } from '../output.ts'
import { stopAll } from '../up/child.ts'
import { type FleetReport, type FrontName, fronts, LocalFleet } from '../up/local-fleet.ts'

const command: Command = defineCommand({
  name: 'up',
  summary: 'Run a whole fleet on this machine: Redis, PostgreSQL, instances, a front',
  usage: `fleet up [FILE] [options]

FILE is the program that each instance runs; it listens on PORT. Without, it is the reference application.
REDIS_URL and DATABASE_URL are used when set. FLEET_PORT (8080; 0: a free one) is the front's port, FLEET_BASE_PORT
(4001) the first instance's. Ctrl-C drains everything and leaves nothing behind.`,
  options: {
    instances: { type: 'string', short: 'n', default: '3', describe: 'NUMBER of instances, 1 to 64' },
    front: {
      type: 'string',
      short: 'f',
      describe: 'NAME of the front: nginx (default, when it is there), haproxy, node',
    },
    logs: { type: 'boolean', describe: 'Show what the instances write' },
  },
  async run({ values, positionals, out }) {
    const steps = new Steps(out)
    const reference = positionals.length === 0
    const fleet = new LocalFleet({
      file: programFile(positionals),
      instances: parseInstances(values.instances),
      front: parseFront(values.front),
      env: readEnv(),
      migrate: reference,
      onEvent: (line) => steps.event(line),
      onOutput: values.logs ? (id, text) => out.note(prefixed(id, text)) : undefined,
    })
    const ending = untilSignal()
    steps.begin('looking for what is here')
    try {
      const started = await Promise.race([fleet.start().then(() => true), ending])
      if (started === true) {
        steps.end('the fleet is ready')
        const report = fleet.report()
        show(report, reference, out)
        out.result(report)
        await ending
      } else {
        steps.end('stopped before it was ready')
      }
      steps.begin('draining')
      const clean = await fleet.drain()
      steps.end(clean ? 'drained' : 'drained, but not every instance ended in good order')
      return clean ? 0 : 1
    } catch (error) {
      steps.fail()
      await fleet.drain()
      throw error
    } finally {
      await stopAll()
    }
  },
})
export default command

function parseInstances(text: string): number {
  if (/^\d{1,2}$/.test(text) && Number(text) >= 1 && Number(text) <= 64) return Number(text)
  throw new FleetError(
    'FLEET_ERR_USAGE',
    `--instances must be a whole number from 1 to 64, not ${JSON.stringify(text)}`,
  )
}

function parseFront(text: string | undefined): FrontName | undefined {
  if (text === undefined || Object.hasOwn(fronts, text)) return text as FrontName | undefined
  const known = Object.keys(fronts).join(', ')
  throw new FleetError('FLEET_ERR_USAGE', `--front must be one of ${known}, not ${JSON.stringify(text)}`)
}

/** The program to run: as named, or the reference application, which is not part of the published package. */
function programFile(positionals: readonly string[]): string {
  if (positionals.length > 1) throw new FleetError('FLEET_ERR_USAGE', 'give one FILE, the program of every instance')
  const named = positionals[0]
  const file = named ?? fileURLToPath(new URL(`../../app/main${extname(import.meta.url)}`, import.meta.url))
  if (existsSync(file)) return relative('', file)
  const detail = named ? `there is no file ${named}` : 'name the program to run, e.g. `fleet up app.js`'
  throw new FleetError('FLEET_ERR_USAGE', detail)
}

/** A terminal signals npm and this process alike, and npm passes its signal on: two within this time are one, ms. */
const sameSignalMs = 1_000

/** Settles at the first signal to end. A later one ends this process at once; the guard then ends its children. */
function untilSignal(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>()
  let first: number | undefined
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      first ??= performance.now()
      if (performance.now() - first > sameSignalMs) process.exit(1)
      resolve(signal)
    })
  }
  return promise
}

/** What is being done while one waits for its end, drawn in place; lines otherwise. */
class Steps {
  readonly #out: Output
  #progress: Progress | undefined

  constructor(out: Output) {
    this.#out = out
  }

  begin(label: string): void {
    this.#progress = this.#out.progress(label)
  }

  event(line: string): void {
    if (this.#progress) this.#progress.label(line)
    else this.#out.note(line)
  }

  end(text: string): void {
    this.#progress?.done(text)
    this.#progress = undefined
  }

  fail(): void {
    this.#progress?.fail()
    this.#progress = undefined
  }
}

const prefixed = (id: string, text: string): string => text.trimEnd().replaceAll(/^/gm, `${id} | `)

function show(report: FleetReport, reference: boolean, out: Output): void {
  const { front, instances, servers, state, adminToken, dashboard, notes } = report
  const bold = (text: string): string => out.style('bold', text)
  out.line()
  out.table([
    { what: bold('front'), name: front.kind, where: bold(front.url), process: front.pid },
    ...instances.map(({ id, url, pid }) => ({ what: 'instance', name: id, where: url, process: pid })),
    ...servers.map(({ program, port, pid }) => ({
      what: 'server',
      name: program,
      where: `127.0.0.1:${port}`,
      process: pid,
    })),
  ])
  out.line()
  out.table([
    { state: 'sessions, tokens, cache, limits, registry', 'lives in': state.sessions },
    { state: 'users and records', 'lives in': state.database },
  ])
  out.line()
  for (const note of notes) out.line(`${out.style('yellow', 'note')} ${note}`)
  out.line(`dashboard    ${bold(dashboard)}`)
  out.line('             signs in once, within 5 minutes; later with the admin token')
  out.line(`admin token  ${adminToken}`)
  out.line('             FLEET_ADMIN_TOKEN for `fleet ps`, `fleet drain` and curl')
  out.line(`try          ${reference ? loginExample(front.url) : `curl -i ${front.url}/`}`)
  out.line('Ctrl-C drains everything')
}

const loginExample = (url: string): string =>
  `curl -i -H 'content-type: application/json' -d '{"email":"test@example.com","password":"password"}' ` +
  `${url}/api/v1/auth/login`
