import type { Command, CommandOption, CommandOptions } from './args.ts'

/** The options of every verb. */
export const common = {
  help: { type: 'boolean', short: 'h', describe: 'Show this help' },
  json: { type: 'boolean', describe: 'Print the result as JSON' },
} as const satisfies CommandOptions

/** An option in the words of `--help`, man pages and completions. */
export interface OptionHelp {
  readonly name: string
  readonly short?: string
  /** Name of the value, e.g. `PORT`; `undefined` for a flag. */
  readonly value?: string
  /** The description, with the default and whether the option may be repeated. */
  readonly text: string
  readonly multiple: boolean
  readonly choices?: readonly string[]
  /** Whether the value is the name of a file or folder. */
  readonly isFile: boolean
}

/** The options of a verb, with those of every verb. */
export const optionsOf = ({ options }: Command): readonly OptionHelp[] =>
  Object.entries({ ...options, ...common }).map(([name, option]) => describe(name, option))

function describe(name: string, option: CommandOption): OptionHelp {
  const named = option.type === 'string' ? /^(?:N|[A-Z][A-Z0-9:_-]+)(?= )/.exec(option.describe)?.[0] : undefined
  const text = named ? option.describe.slice(named.length + 1) : option.describe
  const shown = option.default === undefined || option.default === false ? '' : ` (default ${String(option.default)})`
  const value = option.type === 'string' ? (named ?? 'VALUE') : undefined
  return {
    name,
    short: option.short,
    value,
    text: `${text}${option.multiple ? '; may be repeated' : ''}${shown}`,
    multiple: option.multiple === true,
    choices: option.choices,
    isFile: value === 'FILE' || value === 'DIRECTORY',
  }
}

/** The text of `fleet VERB --help`. */
export function helpOf(command: Command): string {
  const entries = optionsOf(command).map(({ name, short, value, text }) => ({
    flag: `${short ? `-${short}, ` : ''}--${name}${value ? ` ${value}` : ''}`,
    text,
  }))
  const width = Math.max(...entries.map(({ flag }) => flag.length))
  const lines = entries.map(({ flag, text }) => `  ${flag.padEnd(width)}  ${text}`)
  return [command.usage, '', command.summary, '', ...lines].join('\n')
}
