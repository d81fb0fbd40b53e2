import { existsSync } from 'node:fs'
import { dirname, extname, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readEnv } from '../../base/env.ts'
import { afterSameSignal } from '../../instance/lifecycle/signals.ts'
import { type Command, defineCommand, flag, integerOption, option, portOption, usageError } from '../args.ts'
import type { Output, Progress } from '../output.ts'
import { stopAll } from '../up/child.ts'
import { mayInstall } from '../up/consent.ts'
import { DataFolder } from '../up/data.ts'
import { type ServerName, serverNames } from '../up/dependencies.ts'
import { extraPrograms } from '../up/extra-process.ts'
import { type FleetReport, type FrontName, fronts, LocalFleet } from '../up/local-fleet.ts'
import { LogView, logLevel } from '../up/log-view.ts'
import { openInBrowser } from '../up/open.ts'
import { duration } from './ps.ts'

const command: Command = defineCommand({
  name: 'up',
  summary: 'Run a whole fleet on this machine: instances, a front, and the servers they use',
  usage: `fleet up [FILE] [options]

FILE is the program of each instance and must listen on PORT (default: the reference application). Redis is started for the
state that instances share. PostgreSQL is started if the folder of the app has a Prisma schema for it, or if its package.json
depends on pg, postgres, @fastify/postgres, @prisma/adapter-pg or (without a schema) @prisma/client. The migrations in its
prisma/migrations are applied. REDIS_URL and DATABASE_URL replace the servers that it would start. Missing programs are
installed with apt-get only after a yes on the terminal or with --install. FLEET_BASE_PORT (default 4001) is the port of the first
instance. Ctrl-C drains and stops everything.

--with worker=./worker.js runs a Node program beside the instances, with the same environment. If it ends, that is reported, and the
fleet goes on. Ctrl-C stops it with the instances.

With --watch, changed files in the folder of FILE reload the instances one after the other, without losing a request, and restart
the programs of --with. If the new build does not start, the old one keeps serving. Hidden files, node_modules, coverage, dist,
build, out, tmp, temp, logs, reports and files that programs write (*.log, *.db, report.html, junit.xml …) do not count. One more
port is needed, that after the last instance's.`,
  options: {
    port: option('PORT of the front; 0: a free one (default: FLEET_PORT, else 8080)'),
    instances: option('N instances, 1 to 64', { short: 'n', default: '3' }),
    front: option('NAME of the front: nginx (default if installed), haproxy, node', {
      short: 'f',
      choices: Object.keys(fronts),
    }),
    install: flag('Install missing programs with apt-get without asking'),
    with: option(
      'SERVER to start although the app does not seem to use it: postgres; or NAME=FILE, a program to run beside',
      { multiple: true, choices: serverNames },
    ),
    without: option('SERVER not to start: redis (one instance, its state in memory), postgres', {
      multiple: true,
      choices: serverNames,
    }),
    data: option('DIR in which Redis, PostgreSQL and secrets are kept between runs (default: nothing is kept)'),
    migrate: flag('Apply prisma/migrations of the app to the database of DATABASE_URL, too'),
    watch: flag('Reload the instances when files in the folder of FILE change'),
    'watch-path': option('PATH of a file or folder to watch instead; implies --watch', { multiple: true }),
    open: flag('Open the dashboard in the browser'),
    logs: flag('Show the output of the instances, each line with the id; readable on a terminal, else as it is'),
    'log-level': option(
      'LEVEL from which lines of pino are shown: trace, debug, info, warn, error, fatal; implies --logs',
    ),
  },
  suggest: { files: true },
  async run({ values, positionals, out }) {
    let step: Progress | undefined
    const reference = positionals.length === 0
    const file = programFile(positionals)
    const extra = extraPrograms(values.with ?? [])
    const level = values['log-level'] === undefined ? undefined : logLevel(values['log-level'])
    const view =
      values.logs || level
        ? new LogView(out, {
            level,
            width: Math.max('app-1-0000'.length, ...extra.programs.map(({ name }) => name.length)),
          })
        : undefined
    const fleet = new LocalFleet({
      file,
      instances: integerOption('instances', values.instances, 1, 64),
      front: parseFront(values.front),
      env: values.port === undefined ? readEnv() : { ...readEnv(), FLEET_PORT: portOption(values.port) },
      include: servers('with', extra.servers),
      programs: extra.programs,
      data: dataFolder(values.data),
      exclude: servers('without', values.without),
      migrate: reference || values.migrate === true,
      seed: reference,
      watch: watched([file, ...extra.programs.map((program) => program.file)], values),
      // In place during a step, else as a line.
      onEvent: (line) => (step ? step.label(line) : out.note(line)),
      logLevel: level,
      onOutput: view && ((id, text, stream, group) => view.write(id, text, stream, group)),
    })
    const install = await mayInstall(await fleet.missing(), values.install === true, out)
    const ending = untilSignal()
    let readyAt: number | undefined
    step = out.progress('looking for installed programs')
    try {
      const started = await Promise.race([fleet.start(install).then(() => true), ending])
      if (started === true) {
        step.done('the fleet is ready')
        readyAt = Date.now()
        step = undefined
        const report = fleet.report()
        show(report, reference, out)
        out.result(report)
        if (values.open) await openDashboard(report.dashboard, out)
        await ending
      } else {
        step.done('stopped before it was ready')
      }
      const ran = readyAt === undefined ? undefined : duration(Date.now() - readyAt)
      step = out.progress('draining')
      const clean = await fleet.drain()
      step.done(clean ? 'drained' : 'drained, but not every instance exited cleanly')
      if (ran !== undefined) out.note(`${fleet.tally}; ran ${ran}`)
      return clean ? 0 : 1
    } catch (error) {
      step?.fail()
      step = undefined
      await fleet.drain()
      throw error
    } finally {
      await stopAll()
    }
  },
})
export default command

function parseFront(text: string | undefined): FrontName | undefined {
  if (text === undefined || Object.hasOwn(fronts, text)) return text as FrontName | undefined
  const known = Object.keys(fronts).join(', ')
  throw usageError(`--front must be one of ${known}, not ${JSON.stringify(text)}`)
}

function servers(option: string, given: readonly string[] = []): ReadonlySet<ServerName> {
  for (const name of given) {
    if ((serverNames as readonly string[]).includes(name)) continue
    throw usageError(`--${option} must be one of ${serverNames.join(', ')}, not ${JSON.stringify(name)}`)
  }
  return new Set(given as ServerName[])
}

/** The named program, or the reference application, which the published package does not include. */
function programFile(positionals: readonly string[]): string {
  if (positionals.length > 1) throw usageError('expected one FILE, the program of every instance')
  const named = positionals[0]
  const file = named ?? fileURLToPath(new URL(`../../app/main${extname(import.meta.url)}`, import.meta.url))
  if (existsSync(file)) return relative('', file)
  const detail = named ? `no such file: ${named}` : 'missing FILE, e.g. `fleet up app.js`'
  throw usageError(detail)
}

async function openDashboard(url: string, out: Output): Promise<void> {
  const why = await openInBrowser(url)
  if (why !== undefined) out.note(`${why}; open ${url}`)
}

function dataFolder(path: string | undefined): DataFolder | undefined {
  if (path === '') throw usageError('--data must name a folder, e.g. --data .fleet')
  return path === undefined ? undefined : new DataFolder(path)
}

/** The paths to watch. @throws FLEET_ERR_USAGE */
function watched(
  files: readonly string[],
  given: { watch?: boolean; 'watch-path'?: readonly string[] },
): readonly string[] {
  const paths = given['watch-path'] ?? (given.watch ? files.map((file) => dirname(file)) : [])
  for (const path of paths) if (!existsSync(path)) throw usageError(`--watch-path: no such file or folder: ${path}`)
  return paths
}

/** Resolves at the first signal. A later one exits at once; the guard then ends the children. */
function untilSignal(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>()
  let isSecond = false
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (isSecond) process.exit(1)
      resolve(signal)
    })
  }
  void promise.then(() =>
    afterSameSignal(() => {
      isSecond = true
    }),
  )
  return promise
}

function show(report: FleetReport, reference: boolean, out: Output): void {
  const { front, instances, processes, servers, state, adminToken, dashboard, notes } = report
  const bold = (text: string): string => out.style('bold', text)
  out.line()
  out.table([
    { what: bold('front'), name: front.kind, where: bold(front.url), process: front.pid },
    ...instances.map(({ id, url, pid }) => ({ what: 'instance', name: id, where: url, process: pid })),
    ...processes.map(({ name, pid }) => ({ what: 'process', name, where: '', process: pid })),
    ...servers.map(({ program, port, pid }) => ({
      what: 'server',
      name: program,
      where: `127.0.0.1:${port}`,
      process: pid,
    })),
  ])
  out.line()
  out.table([
    { state: 'sessions, tokens, cache, limits, registry', 'stored in': state.sessions },
    { state: 'database', 'stored in': state.database },
  ])
  out.line()
  for (const note of notes) out.line(`${out.style('yellow', 'note')} ${note}`)
  out.line(`dashboard    ${bold(dashboard)}`)
  out.line('             this link signs in once within 5 minutes; later use the admin token')
  out.line(`admin token  ${adminToken}`)
  out.line('             FLEET_ADMIN_TOKEN for `fleet ps`, `fleet drain` and curl')
  out.line(`try          ${reference ? loginExample(front.url) : `curl -i ${front.url}/`}`)
  out.line('logs         `fleet logs` in another terminal, `-f` to follow')
  out.line('Ctrl-C drains everything')
}

const loginExample = (url: string): string =>
  `curl -i -H 'content-type: application/json' -d '{"email":"test@example.com","password":"password"}' ` +
  `${url}/api/v1/auth/login`
