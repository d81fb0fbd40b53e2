import { writeFile } from 'node:fs/promises'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { type Command, defineCommand, flag, integerOption, option, usageError } from '../args.ts'
import { operatorOptions } from '../operators.ts'
import { type Output, plural } from '../output.ts'
import { page } from '../smoke/html.ts'
import { junit, junitError } from '../smoke/junit.ts'
import type { Report, Status } from '../smoke/report.ts'
import { type Part, testFleet } from '../smoke/run.ts'
import { Target } from '../target.ts'

const command: Command = defineCommand({
  name: 'test',
  summary: 'Test a running fleet: health, load distribution, sessions, headers, failover',
  usage: `fleet test [URL] [options]

URL is the front (default: that of \`fleet up\`, http://127.0.0.1:8080 or the port of FLEET_PORT). Without one of the first five
options, it tests everything except --failover and --kill.
--session-path is for applications without a login: the route returns how often its session called it, e.g. {"visits":3}.
Exit code: 0 passed, 1 a check or a limit failed, 2 the test could not run.`,
  options: {
    'health-only': flag('Only health paths, operators’ paths and headers'),
    'load-distribution': flag('Only the distribution of requests over instances, and stickiness'),
    sessions: flag('Only logins and logouts, which must be valid on every instance'),
    failover: flag('Only a drain and undrain of one instance under load (needs --instance or --token)'),
    kill: option('COMMAND for a shell that ends an instance under load; only this, as with the options above'),
    requests: option('N requests for the load distribution, 1 to 10000', { short: 'n', default: '300' }),
    concurrency: option('N concurrent requests, 1 to 100', { short: 'c', default: '10' }),
    path: option('PATH of these requests', { default: '/health' }),
    instances: option('N expected instances'),
    instance: option('URL of an instance, for direct requests', { multiple: true }),
    token: operatorOptions.token,
    user: option('USER to log in as', { default: 'test@example.com' }),
    password: option('PASSWORD of that user', { default: 'password' }),
    'login-path': option('PATH that logs in', { default: '/api/v1/auth/login' }),
    'logout-path': option('PATH that logs out', { default: '/api/v1/auth/logout' }),
    'me-path': option('PATH that returns the current user', { default: '/api/v1/me' }),
    'session-path': option('PATH that counts the visits of a session, to test instead of the login'),
    'max-p95': option('MS that 95 % of the requests for the load distribution may take at most'),
    'max-error-rate': option('PERCENT of the requests under load that may fail, e.g. 0.1', { default: '0' }),
    timeout: option('MS a request may take', { default: '10000' }),
    insecure: operatorOptions.insecure,
    html: option('FILE for a report with charts'),
    junit: option('FILE for a report as JUnit XML, which CI systems display'),
  },
  async run({ values, positionals, out }) {
    const [url = `http://127.0.0.1:${readEnv().FLEET_PORT ?? 8080}`, ...rest] = positionals
    if (rest.length > 0) throw usageError('expected one URL, of the front; see `fleet test --help`')
    const selected = parts(values)
    const needs = (option: 'max-p95' | 'session-path', part: Part, flag: string): void => {
      if (values[option] !== undefined && selected.size > 0 && !selected.has(part))
        throw usageError(`--${option} belongs to --${flag}; add it`)
    }
    needs('max-p95', 'load', 'load-distribution')
    needs('session-path', 'sessions', 'sessions')
    const target = { timeoutMs: integerOption('timeout', values.timeout, 1, 600_000), insecure: values.insecure }
    const startedAt = new Date().toISOString()
    const report = await testFleet(
      {
        front: new Target(url, target),
        direct: (values.instance ?? []).map((instance) => new Target(instance, target)),
        parts: selected,
        requests: integerOption('requests', values.requests, 1, 10_000),
        concurrency: integerOption('concurrency', values.concurrency, 1, 100),
        path: path('path', values.path),
        token: values.token ?? readEnv().FLEET_ADMIN_TOKEN,
        instances: values.instances === undefined ? undefined : integerOption('instances', values.instances, 1, 10_000),
        login: {
          user: values.user,
          password: values.password,
          loginPath: path('login-path', values['login-path']),
          logoutPath: path('logout-path', values['logout-path']),
          mePath: path('me-path', values['me-path']),
        },
        kill: values.kill,
        sessionPath: values['session-path'] === undefined ? undefined : path('session-path', values['session-path']),
        maxP95: values['max-p95'] === undefined ? undefined : integerOption('max-p95', values['max-p95'], 1, 600_000),
        maxErrorRate: percent('max-error-rate', values['max-error-rate']) / 100,
      },
      out,
    ).catch(async (error: unknown) => {
      // CI systems then show why, instead of a missing report.
      if (values.junit !== undefined && error instanceof FleetError)
        await save('junit', values.junit, junitError(url, startedAt, error), out)
      throw error
    })
    printReport(report, out)
    out.result(report)
    if (values.html !== undefined) await save('html', values.html, page(report), out)
    if (values.junit !== undefined) await save('junit', values.junit, junit(report), out)
    return report.verdict === 'pass' ? 0 : 1
  },
})
export default command

const partOf: Readonly<Record<string, Part>> = {
  'health-only': 'health',
  'load-distribution': 'load',
  sessions: 'sessions',
  failover: 'failover',
  kill: 'kill',
}

function parts(values: Readonly<Record<string, unknown>>): ReadonlySet<Part> {
  if (values.kill === '') throw usageError('--kill needs a command, e.g. "docker kill shop-1"')
  return new Set(
    Object.entries(partOf).flatMap(([option, part]) =>
      values[option] === undefined || values[option] === false ? [] : [part],
    ),
  )
}

function path(option: string, value: string): string {
  if (/^\/[\x21-\x7e]*$/.test(value)) return value
  throw usageError(`--${option} must be a path that starts with /, not ${JSON.stringify(value)}`)
}

const marks = { pass: ['green', '✓'], fail: ['red', '✗'], skip: ['yellow', '–'], info: ['cyan', '·'] } as const

function printReport(report: Report, out: Output): void {
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

function percent(option: string, text: string): number {
  const value = Number(text)
  if (/^\d{1,3}(?:\.\d{1,6})?$/.test(text) && value <= 100) return value
  throw usageError(`--${option} must be a number from 0 to 100, not ${JSON.stringify(text)}`)
}

async function save(option: string, file: string, text: string, out: Output): Promise<void> {
  try {
    await writeFile(file, text)
  } catch (error) {
    throw usageError(`--${option} ${file} cannot be written (${(error as NodeJS.ErrnoException).code})`)
  }
  out.note(`report: ${file}`)
}
