import { FleetError } from '../base/errors.ts'
import type { Output } from './output.ts'

export interface CommandOption {
  readonly type: 'string' | 'boolean'
  readonly short?: string
  /** May be repeated; the value is a list. */
  readonly multiple?: boolean
  readonly default?: string | boolean | string[]
  /** The values that a shell suggests. */
  readonly choices?: readonly string[]
  /** Text for `--help`. It begins with the name of the value in capitals, e.g. `PORT to listen on`. */
  readonly describe: string
}
export type StringOption = CommandOption & { readonly type: 'string' }
export type FlagOption = CommandOption & { readonly type: 'boolean' }
export type CommandOptions = Readonly<Record<string, CommandOption>>

/** An option with a value. `describe` begins with the name of the value. */
export const option = <const O extends Omit<CommandOption, 'type' | 'describe'> = object>(
  describe: string,
  more: O = {} as O,
): O & { readonly type: 'string'; readonly describe: string } => ({ type: 'string', describe, ...more })

/** An option without a value. */
export const flag = <const O extends Pick<CommandOption, 'short' | 'default'> = object>(
  describe: string,
  more: O = {} as O,
): O & { readonly type: 'boolean'; readonly describe: string } => ({ type: 'boolean', describe, ...more })

/** The value of each option; `undefined` is possible for one without a default. */
export type Values<O extends CommandOptions> = { readonly [K in keyof O]: Value<O[K]> }
type Value<O extends CommandOption> = O extends { multiple: true }
  ? readonly Scalar<O>[] | Missing<O>
  : Scalar<O> | Missing<O>
type Scalar<O extends CommandOption> = O['type'] extends 'boolean' ? boolean : string
type Missing<O extends CommandOption> = O extends { default: string | boolean | string[] } ? never : undefined

export interface Input<O extends CommandOptions = CommandOptions> {
  readonly values: Values<O>
  readonly positionals: readonly string[]
  readonly out: Output
  /** All verbs, for the one that writes completions. */
  readonly verbs: Verbs
}

/** Verbs by name. Each is loaded on use, so `fleet ps` does not load the modules of `fleet up`. */
export type Verbs = Readonly<Record<string, () => Promise<{ default: Command }>>>

/** A verb. `dispatch` handles `--help` and `--json` for every verb; the latter is `out.json`. */
export interface Command {
  readonly name: string
  /** A line for the list of verbs. */
  readonly summary: string
  /** The synopsis, e.g. `fleet test URL [options]`; more lines are printed unchanged. */
  readonly usage: string
  readonly options: CommandOptions
  /** What a shell suggests for arguments: words for the first one, and the names of files. Default: nothing. */
  readonly suggest?: { readonly words?: readonly string[]; readonly files?: boolean }
  /**
   * @returns the exit code: 0 success, 1 failure, 2 could not run
   * @throws FLEET_ERR_USAGE for an invalid command line (exit code 2); other errors exit with 1
   */
  // A method is bivariant, so a verb can declare the exact type of its values.
  run(input: Input): Promise<number>
}

interface Definition<O extends CommandOptions> extends Omit<Command, 'options' | 'run'> {
  readonly options: O
  run(input: Input<O>): Promise<number>
}

/** Infers the types of the verb's options for `run`: `const command: Command = defineCommand({…})`. */
export const defineCommand = <const O extends CommandOptions>(definition: Definition<O>): Command =>
  definition as Command

/** The command line is invalid. */
export const usageError = (detail: string, options?: ErrorOptions): FleetError =>
  new FleetError('FLEET_ERR_USAGE', detail, options)

/** The value of `--port`. @throws FLEET_ERR_USAGE */
export const portOption = (text: string): number => integerOption('port', text, 0, 65_535)

/** @throws FLEET_ERR_USAGE unless `text` is a whole number from `min` to `max` */
export function integerOption(name: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (/^\d{1,15}$/.test(text) && value >= min && value <= max) return value
  throw usageError(`--${name} must be a whole number from ${min} to ${max}, not ${JSON.stringify(text)}`)
}
