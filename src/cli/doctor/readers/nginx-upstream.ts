import { duration } from '../durations.ts'
import { type Fact, type FrontFacts, factAt, unjudged } from '../facts.ts'
import type { Scope } from './nginx-scope.ts'
import type { Directive } from './nginx-syntax.ts'
import type { Report } from './report.ts'

export interface Upstream {
  readonly name: string
  readonly scope: Scope
  /** The directives that pass requests to it. */
  readonly passes: Directive[]
}

/** A `proxy_pass` to HTTP servers, and the levels in effect there. */
export interface Proxied {
  readonly scope: Scope
  readonly pass: Directive
  /** The upstreams that it may use. */
  readonly upstreams: readonly Upstream[]
}

/** nginx's own defaults. */
const defaults = { keepaliveMs: 60_000, failMs: 10_000 }
/** nginx 1.29.7 made keep-alive to upstreams its default. No file shows its version. */
export const olderNginx = 'nginx is older than 1.29.7'
/** Methods that reject `backup`. */
const withoutBackup = new Set(['ip_hash', 'hash', 'random'])

/** Rules and facts of an upstream that HTTP requests are passed to. */
export function readUpstream({ name, scope, passes }: Upstream, report: Report): void {
  const at = scope.directive
  const servers = scope.all('server')
  if (!at || servers.length === 0) return
  if (!passes.some((pass) => pass.name === 'proxy_pass')) {
    const why = passes.length > 0 ? `${name} does not serve HTTP` : `no file passes requests to ${name}`
    report.readings.push(unjudged(at, why))
    return
  }
  const method = scope.own.find((directive) => withoutBackup.has(directive.name))
  const backup = servers.find(({ args }) => args.includes('backup'))
  if (method && backup) {
    // nginx looks at the method only when it reads a server below it.
    const isIgnored = scope.own.indexOf(method) > scope.own.indexOf(backup)
    const detail = isIgnored ? `${method.name} is below it, so nginx ignores the server instead` : method.name
    report.check('DOCTOR_NGINX_BACKUP', true, backup, detail, { edit: { from: ' backup', to: '' } })
  } else if (backup) report.check('DOCTOR_NGINX_BACKUP', false, backup)

  const missing = scope.all('include')[0]
  const keepalive = scope.all('keepalive').at(-1)
  if (!keepalive && missing)
    report.unjudged(missing, `${missing.args[0]} is not among the files`, [
      'DOCTOR_NGINX_NO_KEEPALIVE',
      'DOCTOR_KEEPALIVE',
    ])
  else {
    // A method must be above it.
    const hasMethod = scope.own.some(
      (one) => withoutBackup.has(one.name) || /^(?:least_conn|sticky|least_time)$/.test(one.name),
    )
    const edit = hasMethod ? undefined : { from: '{', to: '{\n  keepalive 64;' }
    report.check('DOCTOR_NGINX_NO_KEEPALIVE', !keepalive, at, name, { assumed: olderNginx, edit })
  }
  report.readings.push(frontOf(name, at, keepalive, scope, servers))
}

function frontOf(
  name: string,
  { file, line }: Directive,
  keepalive: Directive | undefined,
  scope: Scope,
  servers: readonly Directive[],
): FrontFacts {
  const timeout = scope.all('keepalive_timeout').at(-1)
  const idle = timeout ? duration(timeout.args[0] ?? '') : defaults.keepaliveMs
  // nginx does not avoid the only server.
  const isOnly = servers.length === 1 && isAddress(servers[0]?.args[0] ?? '')
  const avoids = isOnly ? [] : servers.flatMap((server) => avoid(server) ?? [])
  return {
    role: 'front',
    source: 'nginx',
    name: `upstream ${name}`,
    file,
    line,
    idleMs: keepalive && idle !== undefined ? idleFact(idle, timeout, keepalive) : undefined,
    avoidMs: avoids.toSorted((a, b) => a.value - b.value)[0],
  }
}

function idleFact(ms: number, timeout: Directive | undefined, keepalive: Directive): Fact<number> {
  if (!timeout) return { ...factAt(ms, keepalive), default: 'nginx’s default' }
  return { ...factAt(ms, timeout), write: (to) => ({ from: `${timeout.args[0]};`, to: `${to / 1_000}s;` }) }
}

/** One address, unlike a name, which may have several. */
const isAddress = (server: string): boolean => /^(?:unix:|localhost(?::|$)|\d+\.\d+\.\d+\.\d+(?::|$)|\[)/.test(server)

/** With `max_fails=0` nginx never avoids an instance, which is right for a last resort. */
function avoid(server: Directive): Fact<number> | undefined {
  const parameter = (name: string): string | undefined =>
    server.args.find((arg) => arg.startsWith(`${name}=`))?.slice(name.length + 1)
  if (parameter('max_fails') === '0' || server.args.includes('down') || server.args.includes('backup')) return undefined
  const given = parameter('fail_timeout')
  const ms = given === undefined ? defaults.failMs : duration(given)
  if (ms === undefined) return undefined
  if (given === undefined) return { ...factAt(ms, server), default: 'nginx’s default' }
  return {
    ...factAt(ms, server),
    write: (to) => ({ from: `fail_timeout=${given}`, to: `fail_timeout=${to / 1_000}s` }),
  }
}
