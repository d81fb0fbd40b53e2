import { type Reader, type Reading, unjudged } from '../facts.ts'
import { forwardingRules } from './nginx-forwarding.ts'
import { type Scope, scopesOf, walk } from './nginx-scope.ts'
import type { Directive } from './nginx-syntax.ts'
import { plant, type Root } from './nginx-tree.ts'
import { type Proxied, readUpstream, type Upstream } from './nginx-upstream.ts'
import { Report } from './report.ts'

/** Reads main files with their includes, and fragments that no file includes. */
export const readNginx: Reader = (sources, variables) => {
  const { roots, notes } = plant(sources, variables)
  const hasMain = roots.some(({ isMain }) => isMain)
  const parts = roots.map((root) => ({ root, ...scopesOf(root) }))
  const upstreams = parts.flatMap(({ http }) => upstreamsOf(http))
  const report = new Report()
  for (const { root, http, other } of parts) {
    const proxied = proxiedIn(http, upstreams)
    // Beside a main file, other fragments are alternatives, so nothing can be missing in them.
    if (hasMain && !root.isMain) report.readings.push(unjudged({ file: root.file, line: 1 }, 'no file includes it'))
    else forwardingRules(http, proxied, report)
    for (const scope of http) serverRules(scope, report)
    editionRules(
      [...http, ...other].flatMap((scope) => [scope, ...walk(scope)]),
      report,
    )
    if (proxied.length === 0)
      report.readings.push(unjudged({ file: root.file, line: 1 }, 'it passes no HTTP requests on'))
  }
  for (const upstream of upstreams) readUpstream(upstream, report)
  return [...notes, ...parts.flatMap(({ root }) => counts(root)), ...report.readings]
}

function upstreamsOf(http: readonly Scope[]): Upstream[] {
  return http.flatMap((scope) =>
    scope.blocks.flatMap((block) =>
      block.name === 'upstream' ? [{ name: block.directive?.args[0] ?? '', scope: block, passes: [] }] : [],
    ),
  )
}

const passes = /^(?:proxy|grpc|fastcgi|uwsgi|scgi|memcached)_pass$/

/** Finds what passes requests to HTTP servers, and registers it with the upstreams. */
function proxiedIn(http: readonly Scope[], upstreams: readonly Upstream[]): Proxied[] {
  const byName = Map.groupBy(upstreams, ({ name }) => name)
  const scopes = http.flatMap((scope) => [scope, ...walk(scope)])
  const values = variableValues(scopes)
  return scopes.flatMap((scope) =>
    scope.own.flatMap((pass): Proxied[] => {
      if (!passes.test(pass.name)) return []
      const [target = ''] = pass.args
      const host = target.replace(/^[a-z]+:\/\//, '').replace(/[/?].*$/, '')
      const used = host.includes('$') ? upstreamsByVariable(host, values, upstreams, byName) : (byName.get(host) ?? [])
      for (const upstream of used) upstream.passes.push(pass)
      const isHttp = pass.name === 'proxy_pass' && /^https?:\/\/|^\$/.test(target)
      return isHttp ? [{ scope, pass, upstreams: used }] : []
    }),
  )
}

/** The values that a variable gets, in `set` and in blocks such as `map`. */
function variableValues(scopes: readonly Scope[]): Map<string, string[]> {
  const found = new Map<string, string[]>()
  const add = (name: string | undefined, value: string | undefined): void => {
    if (name === undefined || value === undefined) return
    const list = found.get(name)
    if (list) list.push(value)
    else found.set(name, [value])
  }
  for (const scope of scopes) {
    for (const { args } of scope.all('set')) add(args[0], args[1])
    if (/^(?:map|split_clients|geo)$/.test(scope.name))
      for (const { args } of scope.own) add(scope.directive?.args.at(-1), args.at(-1))
  }
  return found
}

/** Without a known upstream among its values, a variable may name any. */
function upstreamsByVariable(
  host: string,
  values: ReadonlyMap<string, readonly string[]>,
  upstreams: readonly Upstream[],
  byName: ReadonlyMap<string, Upstream[]>,
): readonly Upstream[] {
  const known = (values.get(host) ?? []).flatMap((value) => byName.get(value.replace(/^https?:\/\//, '')) ?? [])
  return known.length > 0 ? [...new Set(known)] : upstreams
}

const probes = /^(?:\^?~?\*?\s*)?\^?\/(?:\((?:\?:)?)?(?:health|ready|live|alive)(?![\w-])/

/** Rules of servers and locations. */
function serverRules(http: Scope, report: Report): void {
  for (const scope of walk(http)) {
    for (const retries of scope.all('proxy_next_upstream')) {
      const fails = retries.args.includes('non_idempotent')
      report.check('DOCTOR_REPEATS_POSTS', fails, retries, undefined, { edit: { from: ' non_idempotent', to: '' } })
    }
    const { directive, name } = scope
    if (name !== 'location' || !directive || !probes.test(directive.args.at(-1) ?? '')) continue
    const server = scope.within('server') ?? http
    const responds = scope.all('return').some(({ args }) => /^2\d\d$/.test(args[0] ?? ''))
    const proxies = responds && walk(server).some((one) => one.all('proxy_pass').length > 0)
    report.check('DOCTOR_PROBE_ANSWERED_BY_FRONT', proxies, directive, undefined, { ofFleet: true })
  }
  for (const retries of http.all('proxy_next_upstream')) {
    const fails = retries.args.includes('non_idempotent')
    report.check('DOCTOR_REPEATS_POSTS', fails, retries, undefined, { edit: { from: ' non_idempotent', to: '' } })
  }
}

const commercial = new Set(['health_check', 'check', 'least_time', 'queue', 'slow_start', 'ntlm'])
/** Directives that only a licensed nginx Plus has: there, the others are right. */
const licensed = new Set(['mgmt', 'api', 'status_zone', 'zone_sync', 'keyval_zone', 'license_token'])

/** What open-source nginx does not have. */
function editionRules(scopes: readonly Scope[], report: Report): void {
  if (scopes.some((scope) => scope.own.some(({ name }) => licensed.has(name)))) return
  const assumed = 'nginx is the open-source edition'
  for (const scope of scopes)
    for (const directive of scope.own) {
      const parameter = directive.args.find((arg) => /^slow_start=/.test(arg))
      const isParameter = parameter !== undefined && directive.name === 'server' && scope.name === 'upstream'
      if (isParameter) {
        const edit = { from: ` ${parameter}`, to: '' }
        report.check('DOCTOR_NGINX_PLUS', true, directive, parameter, { assumed, edit })
      } else if (commercial.has(directive.name))
        report.check('DOCTOR_NGINX_PLUS', true, directive, directive.name, { assumed })
    }
}

/** What the rules look at. */
const consulted =
  /^(?:http|server|upstream|location|listen|proxy_(?:pass|set_header|http_version|next_upstream)|keepalive(?:_timeout)?|ip_hash|hash|random|least_conn|sticky|zone|return|set|map|split_clients|(?:grpc|fastcgi|uwsgi)_pass)$/

/** The number of directives that the rules look at, by file; those of a file that is included twice count once. */
function counts({ tree }: Root): Reading[] {
  const files = new Map<string, Set<string>>()
  const visit = (directives: readonly Directive[]): void => {
    for (const { name, file, line, block } of directives) {
      const found = files.get(file) ?? new Set()
      files.set(file, consulted.test(name) ? found.add(`${line} ${name}`) : found)
      if (block) visit(block)
    }
  }
  visit(tree)
  return [...files].map(([file, { size }]) => ({ role: 'count', file, line: 1, facts: size }))
}
