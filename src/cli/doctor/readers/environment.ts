import { parseEnv } from 'node:util'
import { type Instance, lineOf, type Reader, type Source, type Variable } from '../facts.ts'

/** Variables that only an instance's environment has; a file with none of them holds values for a front's templates. */
const ofInstances =
  /^(?:export\s+)?(?:REDIS_\w+|SESSION_\w+|JWT_\w+|DATABASE_URL|SHUTDOWN_TIMEOUT|DRAIN_DELAY|TRUST_PROXY|INSTANCE_ID|FLEET_(?:NAME|ALLOW_MEMORY))\s*=/m

/** The variables of a `.env` file, each with its line. */
export function variablesOf({ file, text }: Source): Map<string, Variable> {
  return new Map(
    Object.entries(parseEnv(text)).map(([name, value]) => [
      name,
      { value, file, line: lineOf(text, new RegExp(`^[ \\t]*(?:export[ \\t]+)?${name}[ \\t]*=`, 'm')) },
    ]),
  )
}

/** `.env` files of instances. */
export const readEnvironment: Reader = (sources) =>
  sources
    .filter(({ text }) => ofInstances.test(text))
    .map(
      (source): Instance => ({
        role: 'instance',
        source: 'environment',
        name: source.file,
        file: source.file,
        line: 1,
        env: variablesOf(source),
        // Others may be in the shell, or in a second file.
        unseen: 'any',
      }),
    )
