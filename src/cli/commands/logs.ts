import { existsSync } from 'node:fs'
import { readEnv } from '../../base/env.ts'
import { type Command, defineCommand, flag, integerOption, option, usageError } from '../args.ts'
import type { Output } from '../output.ts'
import { LogReader } from '../up/log-reader.ts'
import { type LogFilter, LogView, logLevel, passes, recordOf } from '../up/log-view.ts'
import { entryOf, fullFile, logFile, logFiles } from '../up/run-log.ts'

const command: Command = defineCommand({
  name: 'logs',
  summary: 'Show what the processes of `fleet up` printed',
  usage: `fleet logs [NAME…] [options]

Shows the last lines of the \`fleet up\` that runs, or ran last, in this project: of its instances, of the programs of --with, and its own
messages, whose name is \`fleet\`. NAME is an instance, such as app-1-0947, the instances of a port, such as app-1, or a program.
FLEET_PORT chooses the \`fleet up\` with this front port if several run.

On a terminal, lines of pino become text. Elsewhere each line is as it was printed, after its name and \` | \`; with --json it is a JSON
document with \`name\` and \`record\` (of pino) or \`text\`. Other ways to run an app keep logs of their own: \`pm2 logs\`,
\`docker compose logs\`, \`journalctl --unit UNIT\`, \`kubectl logs\`; \`fleet start\` prints to its terminal.`,
  options: {
    follow: flag('Go on with new lines, also of the next run, until Ctrl-C', { short: 'f' }),
    lines: option('N lines at most that are there already, 0 to 100000', { short: 'n', default: '100' }),
    'log-level': option(
      'LEVEL from which lines of pino are shown: trace, debug, info, warn, error, fatal; other lines always are',
    ),
    request: option('ID of a request; only lines of pino about it'),
  },
  async run({ values, positionals, out }) {
    const count = integerOption('lines', values.lines, 0, 100_000)
    const level = values['log-level'] === undefined ? undefined : logLevel(values['log-level'])
    const filter = { level, request: values.request }
    const reader = new LogReader(chosenFile())
    // Before it prints: a signal that follows the first line ends it in order.
    const ending = values.follow ? untilSignal() : undefined
    const print = printer(out, filter)
    const select = (text: string): Entry | undefined => {
      const entry = entryOf(text)
      if (entry === undefined || !passes(entry.line, filter)) return undefined
      return positionals.length === 0 || positionals.some((name) => isNamed(entry.label, name)) ? entry : undefined
    }
    const last: Entry[] = []
    for (const text of reader.all()) {
      const entry = select(text)
      if (entry && count > 0 && last.push(entry) > 2 * count) last.splice(0, count)
    }
    for (const entry of last.slice(-count || last.length)) print(entry)
    if (!ending) return 0
    for await (const text of reader.follow(ending)) {
      const entry = select(text)
      if (entry) print(entry)
    }
    return 0
  },
})
export default command

interface Entry {
  readonly label: string
  readonly line: string
}

/** @throws FLEET_ERR_USAGE */
function chosenFile(): string {
  // 0 is a free port, which is known to its `fleet up` only.
  const port = readEnv().FLEET_PORT || undefined
  const file = port === undefined ? logFiles()[0] : logFile(port)
  if (file !== undefined && (existsSync(file) || existsSync(fullFile(file)))) return file
  const which = port === undefined ? '' : ` on port ${port} (FLEET_PORT)`
  throw usageError(
    `no \`fleet up\`${which} has run in this project; see \`fleet logs --help\` for pm2, compose and others`,
  )
}

/** Whether a label is this name, or an instance of the port of this name. */
const isNamed = (label: string, name: string): boolean => label === name || groupOf(label) === name
/** An instance and its successors: `app-1` of `app-1-0947`. */
const groupOf = (label: string): string => /^(app-\d+)-[\da-f]{4}$/.exec(label)?.[1] ?? label

function printer(out: Output, filter: LogFilter): (entry: Entry) => void {
  const view = new LogView(out, { ...filter, width: 'app-1-0000'.length, to: 'stdout' })
  return ({ label, line }) => {
    const record = out.json ? recordOf(line) : undefined
    out.result(record ? { name: label, record } : { name: label, text: line })
    view.line(label, line, groupOf(label))
  }
}

function untilSignal(): AbortSignal {
  const ending = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => ending.abort())
  // `fleet logs -f | head` ends with its reader.
  process.stdout.once('error', () => ending.abort())
  return ending.signal
}
