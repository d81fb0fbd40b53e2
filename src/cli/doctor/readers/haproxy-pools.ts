import { duration } from '../durations.ts'
import { type Fact, type FrontFacts, factAt } from '../facts.ts'
import type { ProxySection, Route, Server } from './haproxy-graph.ts'
import { type Line, lineAfter } from './haproxy-syntax.ts'
import type { Report } from './report.ts'

/** HAProxy's own defaults, ms and counts. */
const defaults = { interMs: 2_000, fall: 3, purgeMs: 5_000 }

/** A socket of the same machine: HAProxy itself, in another section. */
export const isLocalSocket = (address: string): boolean => /^(?:unix@|abns@|abnsz@|sockpair@|fd@|\/)/.test(address)

/** Backends whose servers are not meant to run all the time. */
const onDemand = /acme|letsencrypt|certbot/i

/** Used only when the servers of another backend are gone: they are not checked again. */
const isLastResort = (routes: readonly Route[]): boolean => routes.every(({ condition }) => /\bnbsrv\b/.test(condition))

/** Used for WebSockets only, which begin with a GET. */
const isForSockets = (routes: readonly Route[]): boolean =>
  routes.every(({ condition }) => /upgrade|websocket|socket\.io|\bws\b/i.test(condition))

export function backendRules(pool: ProxySection, report: Report): void {
  const { section, name, routes } = pool
  const servers = pool.servers.filter(({ address }) => !isLocalSocket(address))
  if (servers.length === 0 || onDemand.test(section.name)) return
  const isChecked = (server: Server): boolean => server.has('check') || server.has('track') || server.has('agent-check')
  const regular = servers.filter((server) => !server.has('backup') && !server.has('disabled'))
  const unchecked = regular.find((server) => !isChecked(server))
  const checked = servers.find((server) => server.has('check'))
  // A check of the only server cannot send requests elsewhere.
  const assumed = isSeveral(regular) ? undefined : 'the backend gets another server'
  if (!isLastResort(routes)) {
    const fails = unchecked !== undefined
    report.check('DOCTOR_HAPROXY_NO_CHECK', fails, unchecked?.line ?? section, name, { assumed })
  }
  const asks = httpCheck(pool)
  if (checked && !isLastResort(routes)) {
    const other = [
      'tcp-check',
      'external-check',
      'mysql-check',
      'pgsql-check',
      'redis-check',
      'smtpchk',
      'ldap-check',
      'ssl-hello-chk',
    ]
    const isOther = other.some((option) => pool.option(option)) || checked.has('agent-check')
    const at = checked.holder('check') ?? section
    report.check('DOCTOR_HAPROXY_NO_HTTPCHK', !asks && !isOther, at, name, {
      assumed,
      edit: { from: at.words[0] ?? '', to: `option httpchk GET /ready\n${at.words[0] ?? ''}` },
    })
  }
  retryRules(pool, regular, report)
  report.readings.push(frontOf(pool, checked, asks))
}

const isSeveral = (servers: readonly Server[]): boolean =>
  servers.length > 1 || servers.some(({ line }) => line.words[0] === 'server-template')

function retryRules(pool: ProxySection, servers: readonly Server[], report: Report): void {
  const retries = pool.last('retries')?.words[1]
  const retry = pool.last('retry-on')
  if (retry && retries !== '0') {
    const safe = new Set(['none', 'conn-failure', '0rtt-rejected'])
    const isSafe = retry.words.slice(1).every((word) => safe.has(word))
    const limits = (proxy: ProxySection): boolean =>
      proxy.all('http-request').some(({ words }) => words[1] === 'disable-l7-retry')
    const fails = !isSafe && !isForSockets(pool.routes) && !limits(pool)
    report.check('DOCTOR_HAPROXY_REPEATS_POSTS', fails, retry, undefined, {
      edit:
        retry === pool.section || pool.inherited.includes(retry)
          ? undefined
          : { from: 'retry-on', to: 'http-request disable-l7-retry unless METH_GET\nretry-on' },
    })
  }
  if (isSeveral(servers) && retries !== '0') {
    const at = pool.defaults ?? pool.section
    report.check('DOCTOR_HAPROXY_REDISPATCH', !pool.option('redispatch') && !pool.last('redispatch'), at, undefined, {
      edit: lineAfter(at, 'option redispatch 1'),
    })
  }
}

/** The HTTP check, with its path. */
function httpCheck(pool: ProxySection): Fact<string> | undefined {
  const option = pool.option('httpchk')
  if (!option) return undefined
  const send = pool.last('http-check', 'send')
  const uri = send?.words[send.words.indexOf('uri') + 1]
  if (send?.words.includes('uri') && uri !== undefined) return factAt(uri, send)
  return factAt(option.words.slice(2).find((word) => word.startsWith('/')) ?? '/', option)
}

function frontOf(pool: ProxySection, checked: Server | undefined, asks: Fact<string> | undefined): FrontFacts {
  const { file, line } = pool.section
  return {
    role: 'front',
    source: 'haproxy',
    name: pool.name,
    ...{ file, line },
    idleMs: idle(pool),
    noticeMs: checked && notice(pool, checked),
    readiness: checked ? asks : undefined,
  }
}

/**
 * An idle connection to an instance outlives its client's connection until the next purge of the pool. The client's may be idle for
 * the time of the frontend.
 */
function idle(pool: ProxySection): Fact<number> | undefined {
  if (pool.option('http-server-close') || pool.option('httpclose')) return undefined
  const timeouts = pool.routes.flatMap(({ from }) => {
    const line = ['http-keep-alive', 'http-request', 'client']
      .map((name) => from.last('timeout', name) ?? pool.last('timeout', name))
      .find((found) => found !== undefined)
    const ms = duration(line?.words[2] ?? '', 'ms')
    return line && ms !== undefined ? [{ line, ms }] : []
  })
  const longest = timeouts.toSorted((a, b) => b.ms - a.ms)[0]
  if (!longest) return undefined
  const { line, ms } = longest
  const write = (to: number): { from: string; to: string } => ({
    from: line.words[2] ?? '',
    to: `${to / 1_000 - defaults.purgeMs / 1_000}s`,
  })
  return { ...factAt(ms + defaults.purgeMs, line), ...(line.variable.size > 0 ? {} : { write }) }
}

function notice(pool: ProxySection, server: Server): Fact<number> | undefined {
  const parameter = (name: string): { ms: number; line: Line } | undefined => {
    const [line, text] = [server.holder(name), server.value(name)]
    const ms = duration(text ?? '', 'ms')
    return line && ms !== undefined ? { ms, line } : undefined
  }
  const inter = parameter('inter')
  const interMs = inter?.ms ?? defaults.interMs
  const fall = Number(server.value('fall') ?? defaults.fall)
  if (server.value('inter') !== undefined && !inter) return undefined
  if (!Number.isInteger(fall)) return undefined
  const timeout = duration(pool.last('timeout', 'check')?.words[2] ?? '', 'ms') ?? interMs
  const checks = interMs + (fall - 1) * (parameter('fastinter')?.ms ?? interMs) + timeout
  const agent = server.has('agent-check') ? (parameter('agent-inter')?.ms ?? defaults.interMs) : undefined
  const at = server.holder('inter') ?? server.holder('fall') ?? server.holder('check') ?? pool.section
  const isDefault = !inter && server.value('fall') === undefined && agent === undefined
  return { ...factAt(Math.min(checks, agent ?? checks), at), ...(isDefault ? { default: 'HAProxy’s default' } : {}) }
}
