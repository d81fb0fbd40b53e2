import { serverOptions } from '../../instance/server-options.ts'

/** Defaults of an instance in production, ms. A test compares them with the plugins. */
export const instanceDefaults = {
  keepAliveMs: serverOptions().keepAliveTimeout ?? 72_000,
  drainMs: 5_000,
  shutdownMs: 30_000,
} as const

/** Time for the end of a shutdown: idle sockets, `onClose` hooks and the exit. */
export const exitMs = 2_000

/** The terms of the inequalities, all in ms. */
export type Term =
  | 'idle'
  | 'keepAlive'
  | 'notice'
  | 'avoid'
  | 'drain'
  | 'preStop'
  | 'longest'
  | 'shutdown'
  | 'grace'
  | 'deregister'

export const terms: Readonly<Record<Term, string>> = {
  idle: 'the front’s idle timeout for connections to instances',
  keepAlive: 'the instance’s keep-alive timeout',
  notice: 'the time until the front notices a drain',
  avoid: 'how long nginx avoids an instance after a failure',
  drain: '`DRAIN_DELAY`',
  preStop: 'preStop, part of the grace period in Kubernetes',
  longest: 'the longest request (`--longest`, 10 s)',
  shutdown: '`SHUTDOWN_TIMEOUT`',
  grace: 'the grace period from SIGTERM to SIGKILL',
  deregister: 'how long a deregistered target may finish its requests',
}

export interface TimeoutRule {
  readonly code: string
  /** The sum on the left must be below the sum on the right, or not above it. */
  readonly less: readonly Term[]
  readonly relation: '<' | '≤'
  readonly more: readonly Term[]
  /** Added to the left side, ms. */
  readonly slackMs: number
  readonly why: string
  readonly fix: string
}

/** The timeouts of one shutdown; each must fit the next. */
export const timeoutRules: readonly TimeoutRule[] = [
  {
    code: 'DOCTOR_KEEPALIVE',
    less: ['idle'],
    relation: '<',
    more: ['keepAlive'],
    slackMs: 0,
    why: 'otherwise the front sends on a connection that the instance is closing: a 502 or a lost POST',
    fix: 'lower the front’s idle timeout, or raise `keepAliveTimeout` in Fastify’s options',
  },
  {
    code: 'DOCTOR_NOTICE',
    less: ['notice'],
    relation: '≤',
    more: ['preStop', 'drain'],
    slackMs: 0,
    why: 'otherwise the listener closes while the front still opens connections, which fail',
    fix: 'lower the check interval or the failure threshold, or raise DRAIN_DELAY',
  },
  {
    code: 'DOCTOR_AVOID',
    less: ['drain'],
    relation: '<',
    more: ['avoid'],
    slackMs: 0,
    why: 'otherwise nginx retries a draining instance when its listener has just closed',
    fix: 'set `fail_timeout` above DRAIN_DELAY',
  },
  {
    code: 'DOCTOR_SHUTDOWN',
    less: ['drain', 'longest'],
    relation: '≤',
    more: ['shutdown'],
    slackMs: 0,
    why: 'otherwise the deadline cuts requests that would have finished',
    fix: 'raise SHUTDOWN_TIMEOUT or lower DRAIN_DELAY',
  },
  {
    code: 'DOCTOR_GRACE',
    less: ['preStop', 'shutdown'],
    relation: '≤',
    more: ['grace'],
    slackMs: exitMs,
    why: 'otherwise the process is killed while it still serves requests',
    fix: 'raise the grace period or lower SHUTDOWN_TIMEOUT',
  },
  {
    code: 'DOCTOR_DEREGISTER',
    less: ['shutdown'],
    relation: '≤',
    more: ['deregister'],
    slackMs: 0,
    why: 'otherwise the load balancer cuts connections while the instance still responds',
    fix: 'raise `deregistration_delay`',
  },
]

export interface Setting {
  readonly where: string
  readonly setting: string
  /** The value when it is not set. */
  readonly byDefault: string
  readonly shipped: string
  readonly term: Term | 'none'
  /** Guidance for a setting without a rule. */
  readonly note?: string
}

export const settings: readonly Setting[] = [
  {
    where: 'app',
    setting: '`keepAliveTimeout` (`serverOptions()`)',
    byDefault: '72 s in Fastify, 5 s in Node',
    shipped: '72 s',
    term: 'keepAlive',
  },
  { where: 'app', setting: '`DRAIN_DELAY`', byDefault: '5 s in production, else 0', shipped: '5 s', term: 'drain' },
  { where: 'app', setting: '`SHUTDOWN_TIMEOUT`', byDefault: '30 s', shipped: '30 s', term: 'shutdown' },
  {
    where: 'app',
    setting: '`requestTimeout` (`serverOptions()`)',
    byDefault: 'none in Fastify',
    shipped: '300 s',
    term: 'none',
    note: 'longer than a slow client’s upload; it limits attacks, not requests',
  },
  { where: 'nginx', setting: '`keepalive_timeout` in `upstream`', byDefault: '60 s', shipped: '60 s', term: 'idle' },
  { where: 'nginx', setting: '`fail_timeout` of a `server`', byDefault: '10 s', shipped: '6 s', term: 'avoid' },
  {
    where: 'nginx',
    setting: '`proxy_read_timeout`',
    byDefault: '60 s',
    shipped: '60 s',
    term: 'none',
    note: 'inactivity timeout of an instance; longer than the longest request, 1 h for WebSockets and event streams',
  },
  {
    where: 'nginx',
    setting: '`keepalive_timeout` to clients',
    byDefault: '75 s',
    shipped: '65 s',
    term: 'none',
    note: 'longer than the idle timeout of the load balancer in front of nginx: 60 s for an ALB',
  },
  {
    where: 'nginx',
    setting: '`worker_shutdown_timeout`',
    byDefault: 'none',
    shipped: '5 min',
    term: 'none',
    note: 'limits WebSockets after a reload',
  },
  {
    where: 'HAProxy',
    setting: '`timeout http-keep-alive` + `pool-purge-delay`',
    byDefault: '`timeout client` + 5 s',
    shipped: '65 s',
    term: 'idle',
  },
  {
    where: 'HAProxy',
    setting: '`inter` + `fastinter` × (`fall` − 1) + `timeout check`, or `agent-inter`',
    byDefault: '8 s',
    shipped: '0.5 s',
    term: 'notice',
  },
  {
    where: 'HAProxy',
    setting: '`timeout server`',
    byDefault: 'none',
    shipped: '60 s',
    term: 'none',
    note: 'inactivity timeout of an instance; longer than the longest request',
  },
  {
    where: 'HAProxy',
    setting: '`hard-stop-after`',
    byDefault: 'none',
    shipped: '75 s',
    term: 'none',
    note: 'longer than `timeout http-keep-alive`, for which an old process keeps idle clients',
  },
  { where: 'compose', setting: '`stop_grace_period`', byDefault: '10 s', shipped: '35 s', term: 'grace' },
  { where: 'pm2', setting: '`kill_timeout`', byDefault: '1.6 s', shipped: '35 s', term: 'grace' },
  {
    where: 'pm2',
    setting: '`listen_timeout`',
    byDefault: '3 s',
    shipped: '1 h',
    term: 'none',
    note: 'longer than `FLEET_READY_TIMEOUT` (`DOCTOR_PM2_LISTEN_TIMEOUT`)',
  },
  { where: 'systemd', setting: '`TimeoutStopSec`', byDefault: '90 s', shipped: '40 s', term: 'grace' },
  {
    where: 'Kubernetes',
    setting: '`terminationGracePeriodSeconds`',
    byDefault: '30 s',
    shipped: '40 s',
    term: 'grace',
  },
  { where: 'Kubernetes', setting: '`preStop` sleep', byDefault: 'none', shipped: '5 s', term: 'preStop' },
  {
    where: 'Kubernetes',
    setting: 'propagation of endpoints to every node',
    byDefault: 'assumed 5 s',
    shipped: '',
    term: 'notice',
  },
  {
    where: 'ingress-nginx',
    setting: '`upstream-keepalive-timeout` (its ConfigMap)',
    byDefault: '60 s',
    shipped: 'unchanged',
    term: 'idle',
  },
  { where: 'ALB', setting: '`idle_timeout`', byDefault: '60 s', shipped: '60 s', term: 'idle' },
  {
    where: 'ALB',
    setting: '`interval` × `unhealthy_threshold` + `timeout`',
    byDefault: '95 s',
    shipped: '13 s, with `DRAIN_DELAY` 15 s',
    term: 'notice',
  },
  {
    where: 'ALB',
    setting: '`deregistration_delay`',
    byDefault: '300 s',
    shipped: '60 s, with `SHUTDOWN_TIMEOUT` 45 s',
    term: 'deregister',
  },
  { where: 'ECS', setting: '`stopTimeout`', byDefault: '30 s', shipped: '60 s', term: 'grace' },
  {
    where: 'Cloudflare',
    setting: 'idle connections to the origin, fixed',
    byDefault: '900 s',
    shipped: '',
    term: 'none',
    note: 'longer than the keep-alive timeout of every server here; put nginx, HAProxy or an ALB between',
  },
  {
    where: 'Cloudflare',
    setting: '`interval` of a monitor',
    byDefault: '60 s',
    shipped: '60 s',
    term: 'none',
    note: 'checks regions, not instances; a drain does not depend on it',
  },
]

/** The two tables of docs/timeouts.md; a test compares them with the file. */
export function timeoutTables(): string {
  const sum = (sum: readonly Term[]): string => sum.join(' + ')
  const rules = timeoutRules.map(({ code, less, relation, more, slackMs, why }) => {
    const slack = slackMs > 0 ? ` + ${slackMs / 1_000} s` : ''
    return `| \`${sum(less)}${slack} ${relation} ${sum(more)}\` | ${why} | \`${code}\` |`
  })
  const rows = settings.map(({ where, setting, byDefault, shipped, term, note }) => {
    const meets = term === 'none' ? (note ?? '') : `\`${term}\``
    return `| ${where} | ${setting} | ${byDefault} | ${shipped} | ${meets} |`
  })
  return [
    '| rule | why | code |',
    '|---|---|---|',
    ...rules,
    '',
    '| where | setting | default | shipped | term or guidance |',
    '|---|---|---|---|---|',
    ...rows,
  ].join('\n')
}
