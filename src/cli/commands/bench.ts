import { type Command, defineCommand, integerOption, option, usageError } from '../args.ts'
import { type BenchReport, measure, type Times } from '../bench/measure.ts'
import { operatorOptions, unreachable } from '../operators.ts'
import type { Output } from '../output.ts'
import { Target } from '../target.ts'

const command: Command = defineCommand({
  name: 'bench',
  summary: 'Measure a running fleet: rate, latency, errors, by instance',
  usage: `fleet bench URL [options]

URL is the front or an instance. Without --rate each connection sends the next request after a response, which measures the
highest rate. With --rate requests start at random times, like those of users, which measures the latency at that rate.
Exit code: 0 every response was 2xx, 1 some were not, 2 the target is unreachable.`,
  options: {
    path: option('PATH to request', { default: '/' }),
    duration: option('SECONDS to measure, 1 to 3600', { short: 'd', default: '10' }),
    connections: option('N connections, 1 to 1000', { short: 'c', default: '20' }),
    rate: option('N requests per second, 1 to 20000', { short: 'r' }),
    warmup: option('SECONDS of warm-up, 0 to 60', { default: '1' }),
    timeout: option('MS a request may take, 1 to 600000', { default: '10000' }),
    insecure: operatorOptions.insecure,
  },
  async run({ values, positionals, out }) {
    const [url, ...more] = positionals
    if (url === undefined || more.length > 0) throw usageError('fleet bench takes one URL')
    if (!values.path.startsWith('/')) throw usageError('--path must begin with /')
    const options = {
      path: values.path,
      seconds: integerOption('duration', values.duration, 1, 3_600),
      connections: integerOption('connections', values.connections, 1, 1_000),
      warmUpSeconds: integerOption('warmup', values.warmup, 0, 60),
      ...(values.rate === undefined ? {} : { rate: integerOption('rate', values.rate, 1, 20_000) }),
    }
    const timeoutMs = integerOption('timeout', values.timeout, 1, 600_000)
    const target = new Target(url, { timeoutMs, insecure: values.insecure })
    const first = await target.request(options.path)
    if (first.error !== undefined) throw unreachable(target, first.error)

    const progress = out.progress(`${target.url}${options.path}`, options.seconds)
    let done = 0
    const report = await measure(target, options, (left) => {
      const now = Math.floor(options.seconds - left)
      if (now > done) progress.step(now - done)
      done = Math.max(done, now)
    })
    progress.clear()
    out.result(report)
    print(report, out)
    return report.failed === 0 ? 0 : 1
  },
})
export default command

function print(report: BenchReport, out: Output): void {
  out.line(`${report.url}${report.path}: ${report.connections} connections, ${report.seconds} s`)
  out.line()
  const rows = report.instances.map(({ instance, ...times }) => row(instance, times))
  if (rows.length > 1) rows.push(row('all', report))
  out.table(rows)
  for (const [reason, count] of Object.entries(report.errors)) {
    out.line(`${out.style('red', 'failed')}  ${count} × ${reason}`)
  }
  if (report.ownUtilization >= 0.9) {
    out.note(
      `this process was busy ${Math.round(report.ownUtilization * 100)} % of the time, so it limited the rate and the latencies; ` +
        'measure from another machine, from several, or with --rate',
    )
  }
}

const row = (
  instance: string,
  { requests, failed, rate, p50, p95, p99, max }: Times,
): Record<string, string | number> => ({
  instance,
  requests,
  failed,
  'per second': rate,
  'p50 ms': p50,
  'p95 ms': p95,
  'p99 ms': p99,
  'max ms': max,
})
