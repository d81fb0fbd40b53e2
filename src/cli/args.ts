import type { Output } from './output.ts'

export interface CommandOption {
  readonly type: 'string' | 'boolean'
  readonly short?: string
  /** May be given several times; the value is then a list. */
  readonly multiple?: boolean
  readonly default?: string | boolean | string[]
  /** One sentence for `--help`; the name of the value goes first in capitals, e.g. `PORT to listen on`. */
  readonly describe: string
}
export type CommandOptions = Readonly<Record<string, CommandOption>>

/** What the command line gave for each option; one without a default may be `undefined`. */
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
}

/** One verb. `--help` and `--json` are every verb's: the first never reaches it, the second is `out.json`. */
export interface Command {
  readonly name: string
  /** One line for the list of verbs. */
  readonly summary: string
  /** How it is called, e.g. `fleet test URL [options]`; further lines are shown below it as they are. */
  readonly usage: string
  readonly options: CommandOptions
  /**
   * @returns the exit code: 0 pass or clean, 1 failed, 2 cannot be run
   * @throws FLEET_ERR_USAGE for a wrong command line (exit code 2); any other FleetError ends with exit code 1
   */
  // A method, so that a verb may declare the exact type of its own values.
  run(input: Input): Promise<number>
}

interface Definition<O extends CommandOptions> extends Omit<Command, 'options' | 'run'> {
  readonly options: O
  run(input: Input<O>): Promise<number>
}

/** Gives `run` the exact types of the verb's own options: `const command: Command = defineCommand({…})`. */
export const defineCommand = <const O extends CommandOptions>(definition: Definition<O>): Command =>
  definition as Command
