import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { FleetError, type FleetErrorCode } from '../base/errors.ts'
import { type Command, usageError, type Verbs } from './args.ts'
import { common, helpOf } from './help.ts'
import { suggestion } from './nearest.ts'
import { Output } from './output.ts'

/** Errors with exit code 2: the command line or the configuration is invalid, or the target is unreachable. */
const cannotRun: ReadonlySet<FleetErrorCode> = new Set([
  'FLEET_ERR_USAGE',
  'FLEET_ERR_UNREACHABLE',
  'FLEET_ERR_NOT_OPERATOR',
  'FLEET_ERR_ENV_INVALID',
  'FLEET_ERR_OPTION_INVALID',
  'FLEET_ERR_OPTION_UNKNOWN',
  'FLEET_ERR_MEMORY_IN_WORKERS',
])

/**
 * Finds the verb, parses its options and runs it. With `--json`, an error is a JSON document on stdout as well.
 *
 * @param argv the arguments after the program's name
 * @returns the exit code: 0 success, 1 failure, 2 could not run
 */
export async function dispatch(verbs: Verbs, argv: readonly string[], out: Output = new Output()): Promise<number> {
  const [first, ...rest] = argv
  // An invalid command line must be reported as JSON, too.
  const json = argv.slice(0, argv.includes('--') ? argv.indexOf('--') : argv.length).includes('--json')
  const results = out.with({ json })
  try {
    if (first === '--version' || first === '-v') return print(version(), out)
    const verb = first === 'help' ? rest[0] : first
    if (verb === undefined || verb === '--help' || verb === '-h') {
      const help = await overview(verbs)
      if (first !== undefined) return print(help, out)
      out.note(help)
      return 2
    }
    const load = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined
    if (!load) throw usageError(unknownVerb(verb, Object.keys(verbs)))
    const { default: command } = await load()
    return await run(verbs, command, first === 'help' ? ['--help'] : rest, results)
  } catch (error) {
    return failed(first, error, results)
  } finally {
    results.close()
  }
}

function print(text: string, out: Output): number {
  out.line(text)
  return 0
}

async function run(verbs: Verbs, command: Command, args: readonly string[], out: Output): Promise<number> {
  const { values, positionals } = parse(command, args)
  if (values.help) return print(helpOf(command), out.with({ json: false }))
  return await command.run({ values, positionals, out, verbs })
}

function parse(command: Command, args: readonly string[]): { values: Record<string, never>; positionals: string[] } {
  try {
    const options = { ...command.options, ...common }
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true }) as never
  } catch (error) {
    // Node appends advice about `--`, which does not apply.
    const message = (error as Error).message.replace(/\.?\sTo specify.*/s, '').replaceAll('\n', ' ')
    const unknown = /^Unknown option '(--[^']+)'/.exec(message)?.[1]
    const known = Object.keys({ ...command.options, ...common }).map((name) => `--${name}`)
    const meant = unknown === undefined ? '' : suggestion(unknown, known)
    throw usageError(`${message}${meant}; see \`fleet ${command.name} --help\``)
  }
}

/** An error as text on stderr and, with `--json`, as `{ error: { code, message }, … }` on stdout. */
function failed(verb: string | undefined, error: unknown, out: Output): number {
  if (error instanceof FleetError) {
    const message = error.message.replaceAll(/\s*\n\s*/g, ' ')
    out.error(`${error.code} ${message}`)
    out.failure({ code: error.code, message })
    return cannotRun.has(error.code) ? 2 : 1
  }
  // Any other error is a bug; a report needs the stack.
  const stack = error instanceof Error ? error.stack : String(error)
  out.error(`\`fleet ${verb ?? ''}\` ended unexpectedly\n${stack}`)
  out.failure({ code: null, message: error instanceof Error ? error.message : String(error) })
  return 1
}

function unknownVerb(asked: string, known: readonly string[]): string {
  const kind = asked.startsWith('-') ? 'option' : 'verb'
  const meant = suggestion(asked, [...known, 'help'])
  return `unknown ${kind} ${JSON.stringify(asked)}${meant}; verbs: ${known.join(', ')}; see \`fleet --help\``
}

/** Includes verbs whose optional package is not installed. */
async function overview(verbs: Verbs): Promise<string> {
  const width = Math.max(...Object.keys(verbs).map((name) => name.length))
  const lines = Object.entries(verbs).map(async ([name, load]) => {
    const summary = await load().then(
      ({ default: command }) => command.summary,
      (error: Error) => `(${error.message.split('\n', 1)[0]})`,
    )
    return `  ${name.padEnd(width)}  ${summary}`
  })
  return [
    'fleet VERB [options]',
    '',
    ...(await Promise.all(lines)),
    '',
    '`fleet VERB --help` lists the options of a verb.',
  ].join('\n')
}

export function version(): string {
  const file = new URL('../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
