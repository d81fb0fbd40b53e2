import type { Fact, FrontFacts, InstanceFacts, Variable } from '../../../src/cli/doctor/facts.ts'

export type { FrontFacts as Front, InstanceFacts as Instance }

export const at = <T>(value: T, line = 1): Fact<T> => ({ value, file: 'f', line })

/** The first one is on line 10. */
export const variables = (values: Record<string, string | undefined>): Map<string, Variable> =>
  new Map(Object.entries(values).map(([name, value], i): [string, Variable] => [name, at(value, 10 + i)]))

/** A service of a compose file that trusts its front. */
export const instance = (
  given: Partial<InstanceFacts> = {},
  env: Record<string, string | undefined> = {},
): InstanceFacts => ({
  ...{
    role: 'instance',
    source: 'compose',
    name: 'app',
    file: 'f',
    line: 1,
    unseen: 'any',
    env: variables({ TRUST_PROXY: '10.0.0.1', ...env }),
  },
  ...given,
})

export const front = (given: Partial<FrontFacts>): FrontFacts => ({
  role: 'front',
  source: 'nginx',
  name: 'front',
  file: 'f',
  line: 1,
  ...given,
})
