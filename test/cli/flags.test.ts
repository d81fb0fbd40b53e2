import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type OptionHelp, optionsOf } from '../../src/cli/help.ts'
import { verbs } from '../../src/cli/verbs.ts'

/** Options that mean something else in another verb. A new one needs a better reason than these. */
const deviations = {
  '--target': 'an instance is a URL for a load balancer, but HOST:PORT for a deploy, which fills both into commands',
  '--canary': 'a share of the clients of `balance`, an instance of `deploy`',
  '--instances': 'has a short form only where `-n` is free',
  '-n': 'the number of instances in `up`, of requests in `test`, of lines in `logs`, as in tail',
  '-f': 'front in `up`, follow in `logs`, as in tail',
  '-c': 'concurrent requests in `test`, connections in `bench`',
  '-d': 'discovery in `balance`, duration in `bench`',
  '-r': 'route in `balance`, rate in `bench`',
}

const all: readonly (OptionHelp & { verb: string })[] = (
  await Promise.all(
    Object.entries(verbs).map(async ([verb, load]) =>
      optionsOf((await load()).default).map((option) => ({ verb, ...option })),
    ),
  )
).flat()

/** Keys that have more than one meaning. */
function ambiguous(
  key: (option: OptionHelp) => string | undefined,
  meaning: (option: OptionHelp) => unknown,
): string[] {
  const meanings = Map.groupBy(all, key)
  return [...meanings].flatMap(([name, options]) =>
    name !== undefined && new Set(options.map(meaning)).size > 1 ? [name] : [],
  )
}

describe('the options of all verbs', () => {
  it('take the same value and have the same short form in every verb', () => {
    const names = ambiguous(
      ({ name }) => `--${name}`,
      ({ value, short }) => JSON.stringify([value, short]),
    )
    const shorts = ambiguous(
      ({ short }) => short && `-${short}`,
      ({ name }) => name,
    )
    assert.deepEqual([...names, ...shorts].sort(), Object.keys(deviations).sort())
  })

  it('name each value', () => {
    assert.deepEqual(
      all.filter(({ value }) => value === 'VALUE').map(({ verb, name }) => `${verb} --${name}`),
      [],
    )
  })

  it('have --port where a verb listens', () => {
    const listening = all.filter(({ name, value }) => name === 'port' && value === 'PORT').map(({ verb }) => verb)
    assert.deepEqual(listening, ['start', 'up', 'balance'])
  })
})
