import { parseEnv } from 'node:util'
import type { FactCount, InstanceFacts, Reader, Source, Variable } from '../facts.ts'
import { instanceOf } from './signs.ts'

/** Variables of instances; a file with none of them has values for the templates of a front. */
const instanceVariables =
  /^(?:export\s+)?(?:REDIS_\w+|SESSION_\w+|JWT_\w+|DATABASE_URL(?:_FILE)?|SHUTDOWN_TIMEOUT|DRAIN_DELAY|TRUST_PROXY|INSTANCE_ID|FLEET_(?:NAME|SECRET(?:_FILE)?|ALLOW_MEMORY))\s*=/m

const known = new WeakMap<Source, ReadonlyMap<string, Variable>>()

/** The variables of a `.env` file, each with its line. Many services may refer to one file. */
export function variablesOf(source: Source): ReadonlyMap<string, Variable> {
  const before = known.get(source)
  if (before) return before
  const variables = parse(source)
  known.set(source, variables)
  return variables
}

function parse({ file, text }: Source): ReadonlyMap<string, Variable> {
  const lines = new Map<string, number>()
  for (const [index, line] of text.split('\n').entries()) {
    const name = /^[ \t]*(?:export[ \t]+)?([^\s=]+)[ \t]*=/.exec(line)?.[1]
    if (name !== undefined && !lines.has(name)) lines.set(name, index + 1)
  }
  return new Map(
    Object.entries(parseEnv(text)).map(([name, value]) => [name, { value, file, line: lines.get(name) ?? 1 }]),
  )
}

/** `.env` files of instances. Others have values for templates, which count as read. */
export const readEnvironment: Reader = (sources) =>
  sources.map((source): InstanceFacts | FactCount => {
    const env = variablesOf(source)
    if (!instanceVariables.test(source.text)) return { role: 'count', file: source.file, line: 1, facts: env.size }
    return {
      role: 'instance',
      source: 'environment',
      name: source.file,
      file: source.file,
      line: 1,
      ...(instanceOf({ env, isBuilt: true }) ?? { assumed: 'these are variables of an instance of a fleet' }),
      env,
      // The shell or a second file may set others.
      unseen: 'any',
    }
  })
