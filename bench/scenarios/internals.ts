import { upstreams } from '../fronts.ts'
import type { Bar, Scenario, Subject } from '../scenario.ts'
import { serverMetrics } from '../scenario.ts'
import { fleetEnv, underLoad } from '../servers.ts'

const behind = upstreams(['0'])

type Kind = 'hello' | 'shed' | 'proxy'

const nameOf = (kind: Kind, disabled: string): string =>
  `${kind}, ${disabled === 'none' ? 'all' : `without ${disabled}`}`

const subject = (kind: Kind, disabled: string): Subject => ({
  name: nameOf(kind, disabled),
  async open(machine) {
    const targets = kind === 'proxy' ? (await behind(machine)).map((port) => `http://127.0.0.1:${port}`) : []
    const program = await machine.program('internals.js', { env: fleetEnv, args: [kind, disabled, ...targets] })
    return underLoad(machine, program, { connections: 20 })
  },
})

/** The shortcuts of `src/base/internals/shortcuts.ts`, with the requests that use them. */
const shortcuts: readonly (readonly [Kind, string])[] = [
  ['hello', 'helmetHooks'],
  ['hello', 'headerText'],
  ['shed', 'fastifySymbols'],
  ['shed', 'constantResponse'],
  ['proxy', 'plainHead'],
]

const scenario: Scenario = {
  name: 'internals',
  title: 'What private parts of Node and Fastify are worth',
  about:
    'Each shortcut of `src/base/internals` enabled and disabled: a hello route with the umbrella plugin, the same route ' +
    'while all requests are shed, and a proxy before one upstream; 20 kept connections.',
  slices: 4,
  metrics: serverMetrics,
  subjects: (['hello', 'shed', 'proxy'] as const).flatMap((kind) => [
    subject(kind, 'none'),
    ...shortcuts.filter(([of]) => of === kind).map(([, disabled]) => subject(kind, disabled)),
  ]),
  bars: shortcuts.map(
    ([kind, disabled]): Bar => ({
      what: `${kind} without ${disabled}, CPU per request`,
      subject: nameOf(kind, disabled),
      metric: 'cpu',
      over: nameOf(kind, 'none'),
      is: 'at least',
      limit: 1.05,
    }),
  ),
}
export default scenario
