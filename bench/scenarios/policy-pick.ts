import type { Machine } from '../machine.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'

const names = [
  'round-robin',
  'weighted',
  'least-connections',
  'least-response-time',
  'ip-hash',
  'random',
  'two-choices',
  'prequal',
  'sticky-cookie',
]

const subject = (name: string): Subject => ({
  name,
  async open(machine: Machine): Promise<Open> {
    const file = new URL('../programs/policy-pick.js', import.meta.url).pathname
    return {
      async round(): Promise<Figures> {
        const child = machine.run(process.execPath, [file, name])
        const { code } = await child.exit
        if (code !== 0) throw new Error(child.stderr.trim().slice(-300))
        return JSON.parse(child.stdout)
      },
      close: async () => {},
    }
  },
})

const scenario: Scenario = {
  name: 'policy-pick',
  title: 'The cost of a pick',
  about:
    'CPU µs for one pick, including the in-flight count and the latency record, by the number of targets; 50 ' +
    'requests in flight.',
  metrics: {
    at10: { title: '10 targets, µs', digits: 2 },
    at100: { title: '100 targets, µs', digits: 2 },
    at1000: { title: '1,000 targets, µs', digits: 2 },
  },
  subjects: names.map(subject),
  bars: names.flatMap((name) => [
    { what: `${name} at 1,000 targets, µs`, subject: name, metric: 'at1000', limit: 1 },
    {
      what: `${name}, 1,000 targets over 10`,
      subject: name,
      metric: 'at1000',
      over: name,
      overMetric: 'at10',
      limit: 2,
    },
  ]),
}
export default scenario
