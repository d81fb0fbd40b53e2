import { writeFile } from 'node:fs/promises'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { type Command, defineCommand } from '../args.ts'
import type { Output } from '../output.ts'
import { plural } from '../smoke/context.ts'
import { page } from '../smoke/html.ts'
import type { Report, Status } from '../smoke/report.ts'
import { type Part, testFleet } from '../smoke/run.ts'
import { Target } from '../target.ts'

const command: Command = defineCommand({
  name: 'test',
  summary: 'Prove that a running fleet keeps its promises: health, load, sessions, headers, fail-over',
  usage: `fleet test URL [options]

URL is the front. Without one of the first four options all but --failover is tested.
Exit code: 0 passed, 1 a check failed, 2 the test could not be run.`,
  options: {
    'health-only': { type: 'boolean', describe: 'Health paths, operators’ paths, headers' },
    'load-distribution': { type: 'boolean', describe: 'Do all instances response, each its share; sticky behaviour' },
    sessions: { type: 'boolean', describe: 'Is a login valid on every instance, and a logout too' },
    failover: {
      type: 'boolean',
      describe: 'Drain one instance under load and take it back (needs --instance or --token)',
    },
    requests: { type: 'string', short: 'n', default: '300', describe: 'N requests to judge the load by, 1 to 10000' },
    concurrency: { type: 'string', short: 'c', default: '10', describe: 'N requests at a time, 1 to 100' },
    path: { type: 'string', default: '/health', describe: 'PATH those requests go to' },
    instances: { type: 'string', describe: 'N instances that should response' },
    instance: { type: 'string', multiple: true, describe: 'URL of an instance, asked directly' },
    token: {
      type: 'string',
      describe: 'TOKEN for operators’ paths (default FLEET_ADMIN_TOKEN, which no process list shows)',
    },
    user: { type: 'string', default: 'test@example.com', describe: 'USER to log in as' },
    password: { type: 'string', default: 'password', describe: 'PASSWORD of that user' },
    'login-path': { type: 'string', default: '/api/v1/auth/login', describe: 'PATH that logs in' },
    'logout-path': { type: 'string', default: '/api/v1/auth/logout', describe: 'PATH that logs out' },
    'me-path': { type: 'string', default: '/api/v1/me', describe: 'PATH that tells who one is' },
    timeout: { type: 'string', default: '10000', describe: 'MS one request may take' },
    insecure: { type: 'boolean', describe: 'Accept certificates that nobody signed' },
    html: { type: 'string', describe: 'FILE for a report with charts' },
  },
  async run({ values, positionals, out }) {
    const [url, ...rest] = positionals
    if (url === undefined || rest.length > 0) throw usage('give one URL, the front’s; see `fleet test --help`')
    const target = { timeoutMs: numeric('timeout', values.timeout, 600_000), insecure: values.insecure }
    const report = await testFleet(
      {
        front: new Target(url, target),
        direct: (values.instance ?? []).map((instance) => new Target(instance, target)),
        parts: parts(values),
        requests: numeric('requests', values.requests, 10_000),
        concurrency: numeric('concurrency', values.concurrency, 100),
        path: path('path', values.path),
        token: values.token ?? readEnv().FLEET_ADMIN_TOKEN,
        instances: values.instances === undefined ? undefined : numeric('instances', values.instances, 10_000),
        login: {
          user: values.user,
          password: values.password,
          loginPath: path('login-path', values['login-path']),
          logoutPath: path('logout-path', values['logout-path']),
          mePath: path('me-path', values['me-path']),
        },
      },
      out,
    )
    say(report, out)
    out.result(report)
    if (values.html !== undefined) await save(values.html, page(report), out)
    return report.verdict === 'pass' ? 0 : 1
  },
})
export default command

const partOf: Readonly<Record<string, Part>> = {
  'health-only': 'health',
  'load-distribution': 'load',
  sessions: 'sessions',
  failover: 'failover',
}

const parts = (values: Readonly<Record<string, unknown>>): ReadonlySet<Part> =>
  new Set(Object.entries(partOf).flatMap(([option, part]) => (values[option] === true ? [part] : [])))

const usage = (detail: string): FleetError => new FleetError('FLEET_ERR_USAGE', detail)

function numeric(option: string, value: string, max: number): number {
  if (/^\d{1,9}$/.test(value) && Number(value) >= 1 && Number(value) <= max) return Number(value)
  throw usage(`--${option} must be a whole number from 1 to ${max}, but it is ${JSON.stringify(value)}`)
}

function path(option: string, value: string): string {
  if (/^\/[\x21-\x7e]*$/.test(value)) return value
  throw usage(`--${option} must be a path that starts with /, but it is ${JSON.stringify(value)}`)
}

const marks = { pass: ['green', '✓'], fail: ['red', '✗'], skip: ['yellow', '–'], info: ['cyan', '·'] } as const

function say(report: Report, out: Output): void {
  out.line(`${out.style('bold', report.url)}`)
  for (const { check, status, text, fix } of report.findings) {
    const [colour, mark] = marks[status]
    out.line(`${out.style(colour, mark)} ${check.padEnd(9)} ${text}`)
    if (fix) out.line(`  ${''.padEnd(9)} ${out.style('dim', `→ ${fix}`)}`)
  }
  if (report.distribution) {
    out.line()
    out.table(
      report.distribution.shares.map(({ instanceId, requests, expected, p50, p95 }) => ({
        instance: instanceId,
        requests,
        expected: Math.round(expected),
        'p50 ms': Number(p50.toFixed(1)),
        'p95 ms': Number(p95.toFixed(1)),
      })),
    )
  }
  out.line()
  const count = (status: Status): number => report.findings.filter((finding) => finding.status === status).length
  const skipped = count('skip') > 0 ? `, ${count('skip')} skipped` : ''
  const [colour, mark] = marks[report.verdict]
  out.line(`${out.style(colour, mark)} ${plural(count('pass'), 'check')} passed, ${count('fail')} failed${skipped}`)
}

async function save(file: string, html: string, out: Output): Promise<void> {
  try {
    await writeFile(file, html)
  } catch (error) {
    throw new FleetError(
      'FLEET_ERR_USAGE',
      `--html ${file} cannot be written (${(error as NodeJS.ErrnoException).code})`,
    )
  }
  out.note(`report: ${file}`)
}
