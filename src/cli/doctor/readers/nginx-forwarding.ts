import type { Replacement } from '../facts.ts'
import type { RuleCode } from '../rules.ts'
import { type Inherited, type Scope, walk } from './nginx-scope.ts'
import type { Directive } from './nginx-syntax.ts'
import { olderNginx, type Proxied } from './nginx-upstream.ts'
import type { Report } from './report.ts'

/** Rules of what a `proxy_pass` sends: a finding per level that sets the headers, at the first location concerned. */
export function forwardingRules(http: readonly Scope[], proxied: readonly Proxied[], report: Report): void {
  const own = proxied.filter(({ pass, scope }) => isInstance(pass.args[0] ?? '') && !isSubrequest(scope, http))
  forwards('DOCTOR_FRONT_ADDRESS', 'X-Forwarded-For', '$remote_addr', own, report)
  forwards('DOCTOR_FRONT_PROTOCOL', 'X-Forwarded-Proto', '$scheme', own, report)
  const kept = proxied.filter(({ upstreams }) => upstreams.some(({ scope }) => scope.all('keepalive').length > 0))
  const maps = http.flatMap((scope) => scope.blocks).filter(({ name }) => name === 'map')
  versions(kept, report)
  connections(kept, maps, report)
}

/** Whether the target may be an instance: not an external service, such as a bucket. */
function isInstance(target: string): boolean {
  const host = target.replace(/^https?:\/\//, '').replace(/[:/?].*$/, '')
  if (host.includes('$') || !host.includes('.') || /^[\d.]+$/.test(host)) return true
  return /\.(?:internal|local|localdomain|lan|home|consul|svc|test|localhost)$|\.svc\./.test(host)
}

/** Whether the location serves `auth_request` or `mirror`, whose responses no client gets. */
function isSubrequest(scope: Scope, http: readonly Scope[]): boolean {
  const path = scope.within('location')?.directive?.args.at(-1)
  if (path === undefined || scope.levels.every((level) => level.all('internal').length === 0)) return false
  return http.some((top) =>
    [top, ...walk(top)].some((one) =>
      [...one.all('auth_request'), ...one.all('mirror')].some(({ args }) => args[0] === path),
    ),
  )
}

const isHeader =
  (name: string) =>
  ({ args }: Directive): boolean =>
    args[0]?.toLowerCase() === name.toLowerCase()

const isRealAddress = ({ args: [name = '', value = ''] }: Directive): boolean =>
  /^(?:x-real-ip|forwarded|x-client-ip)$/i.test(name) &&
  /\$(?:remote_addr|realip_remote_addr|http_cf_connecting_ip)/.test(value)

/** Adds the directive before `proxy_pass`, where that does not drop inherited ones. */
const insertion = (text: string, { level }: Inherited, scope: Scope): Replacement | undefined =>
  level === undefined || level === scope ? { from: 'proxy_pass', to: `${text}\nproxy_pass` } : undefined

/** Whether the directives in effect have not been reported yet. A file may be included at many levels. */
function isNew(reported: Set<string>, directives: readonly Directive[]): boolean {
  const [{ file, line } = { file: '', line: 0 }] = directives
  const key = `${file}:${line}`
  return !reported.has(key) && !!reported.add(key)
}

function forwards(code: RuleCode, header: string, value: string, proxied: readonly Proxied[], report: Report): void {
  const isSet = isHeader(header)
  const reported = new Set<string>()
  for (const { scope, pass } of proxied) {
    const inherited = scope.inherited('proxy_set_header', isSet)
    const { directives, level, missing, assumed } = inherited
    if (directives.some(isSet)) report.check(code, false, pass)
    else if (missing) report.unjudged(missing, `${missing.args[0]} is not among the files`, [code])
    else if (isNew(reported, directives)) {
      const dropped = level?.parent?.inherited('proxy_set_header', isSet).directives.some(isSet)
      const detail = dropped ? 'its own proxy_set_header drops the inherited ones' : undefined
      const edit = insertion(`proxy_set_header ${header} ${value};`, inherited, scope)
      // Where the inherited ones are dropped, the header was meant to be sent.
      const plain = code === 'DOCTOR_FRONT_PROTOCOL' && !dropped ? withoutTls(scope) : undefined
      // Other apps than those of Fastify may read it.
      const ofFleet = code === 'DOCTOR_FRONT_ADDRESS' && directives.some(isRealAddress)
      report.check(code, true, pass, detail, { assumed: plain ?? assumed, edit, ofFleet })
    }
  }
}

/** What must be true for clients to use https, if this server does not end it. */
function withoutTls(scope: Scope): string | undefined {
  const server = scope.within('server')
  const listens = server?.all('listen') ?? []
  const endsTls = server?.own.some(
    ({ name, args }) =>
      (name === 'listen' && args.some((arg) => /^(?:ssl|quic)$/.test(arg))) ||
      (name === 'ssl' && args[0] === 'on') ||
      name === 'ssl_certificate',
  )
  if (endsTls) return undefined
  return listens.some(({ args }) => /(?:^|:)443$/.test(args[0] ?? ''))
    ? undefined
    : 'clients use https up to a proxy before nginx, which does not send the header'
}

/** Keep-alive to instances needs HTTP/1.1. */
function versions(proxied: readonly Proxied[], report: Report): void {
  const reported = new Set<string>()
  for (const { scope, pass } of proxied) {
    const inherited = scope.inherited('proxy_http_version')
    const { directives, missing, assumed } = inherited
    const version = directives.at(-1)
    if (missing) report.unjudged(missing, `${missing.args[0]} is not among the files`, ['DOCTOR_NGINX_HTTP_VERSION'])
    else if (version) {
      const edit = { from: '1.0', to: '1.1' }
      report.check('DOCTOR_NGINX_HTTP_VERSION', version.args[0] === '1.0', version, undefined, { edit })
    } else if (isNew(reported, directives)) {
      const edit = { from: 'proxy_pass', to: 'proxy_http_version 1.1;\nproxy_pass' }
      const older = [olderNginx, assumed].filter((text) => text !== undefined).join('; ')
      report.check('DOCTOR_NGINX_HTTP_VERSION', true, pass, undefined, { assumed: older, edit })
    }
  }
}

/** Locations of WebSockets only. */
const sockets =
  /ws|socket|sock|cable|hub|signalr|hmr|live|realtime|stream|subscri|terminal|console|vnc|chat|push|events/i

/** Keep-alive to instances needs a `Connection` header that is empty, except for WebSockets. */
function connections(proxied: readonly Proxied[], maps: readonly Scope[], report: Report): void {
  const code = 'DOCTOR_NGINX_CONNECTION'
  const isConnection = isHeader('Connection')
  const reported = new Set<string>()
  for (const { scope, pass } of proxied) {
    const { directives, missing, assumed } = scope.inherited('proxy_set_header', isConnection)
    const header = directives.findLast(isConnection)
    const value = header?.args[1]?.toLowerCase() ?? ''
    if (header && value.startsWith('$')) mapped(header, maps, report)
    else if (header && value === 'upgrade') {
      const path = scope.within('location')?.directive?.args.at(-1) ?? '/'
      const isAny = /^(?:\^?\/(?:\(\?!.*)?|\.\*?)$/.test(path)
      const isOther = !isAny && !sockets.test(path)
      report.check(code, isAny || isOther, header, undefined, {
        assumed: isOther ? `${path} is not for WebSockets only` : undefined,
      })
    } else if (header) report.check(code, value === 'close', header)
    else if (missing) report.unjudged(missing, `${missing.args[0]} is not among the files`, [code])
    else if (isNew(reported, directives)) {
      const more = [`${olderNginx}, whose default is \`Connection: close\``, assumed]
        .filter((text) => text !== undefined)
        .join('; ')
      report.check(code, true, pass, 'none is set', { assumed: more })
    }
  }
}

/** A `map` that gives `close` to requests without `Upgrade`. */
function mapped(header: Directive, maps: readonly Scope[], report: Report): void {
  const map = maps.find(
    ({ directive }) => directive?.args[0] === '$http_upgrade' && directive.args[1] === header.args[1],
  )
  const entry = map?.own.find(({ name }) => name === '') ?? map?.own.find(({ name }) => name === 'default')
  const closes = entry?.args[0]?.toLowerCase() === 'close'
  const edit = { from: 'close', to: '""' }
  report.check('DOCTOR_NGINX_CONNECTION', closes, entry ?? header, closes ? '`close` without Upgrade' : undefined, {
    edit,
  })
}
