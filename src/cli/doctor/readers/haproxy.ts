import { type FactCount, type Reader, type Reading, type Source, unjudged, type Variable } from '../facts.ts'
import { frontendRules } from './haproxy-frontends.ts'
import { type Graph, graphOf, type ProxySection } from './haproxy-graph.ts'
import { backendRules } from './haproxy-pools.ts'
import { type Line, sectionsOf } from './haproxy-syntax.ts'
import { isTemplate } from './nginx-syntax.ts'
import { Report } from './report.ts'

export const readHaproxy: Reader = (sources, variables) => sources.flatMap((source) => readOne(source, variables))

function readOne(source: Source, variables: ReadonlyMap<string, Variable>): Reading[] {
  const place = { file: source.file, line: 1 }
  if (isTemplate(source.text)) return [unjudged(place, 'it is a template of another program: pass its output')]
  const given = new Map([...variables].map(([name, { value }]) => [name, value]))
  const { sections, skipped } = sectionsOf(source, given)
  const graph = graphOf(sections)
  const report = new Report()
  const pools = poolsOf(graph, report)
  for (const pool of pools) backendRules(pool, report)
  frontendRules(graph, pools, report)
  goneRules(graph, report)
  for (const line of graph.missing) report.readings.push(unjudged(line, `backend ${line.words[1]} is not in this file`))
  if (pools.length === 0) report.readings.push(unjudged(place, 'it passes no HTTP requests on'))
  const facts = sections.reduce(
    (sum, { lines }) => sum + lines.filter(({ words }) => consulted.test(words[0] ?? '')).length,
    0,
  )
  const count: FactCount = { role: 'count', ...place, facts }
  return [count, ...skipped, ...report.readings]
}

/** What the rules look at. */
const consulted =
  /^(?:mode|balance|bind|server|server-template|default-server|default_backend|use_backend|option|http-check|http-request|timeout|stats|retry-on|retries|monitor-uri|acl)$/

/** The backends with servers that HTTP requests reach. */
function poolsOf({ proxies }: Graph, report: Report): ProxySection[] {
  return proxies.filter((proxy) => {
    if (proxy.section.kind === 'frontend' || proxy.servers.length === 0) return false
    if (!proxy.isHttp) report.readings.push(unjudged(proxy.section, `${proxy.name} is not in mode http`))
    else if (proxy.routes.length === 0)
      report.readings.push(unjudged(proxy.section, `no frontend passes requests to ${proxy.name}`))
    return proxy.isHttp && proxy.routes.length > 0
  })
}

/** Removed words, with what replaces them. */
const gone: Readonly<Record<string, string>> = {
  reqadd: 'http-request add-header',
  reqrep: 'http-request replace-header',
  reqirep: 'http-request replace-header',
  reqdel: 'http-request del-header',
  reqidel: 'http-request del-header',
  rspadd: 'http-response add-header',
  rsprep: 'http-response replace-header',
  rspirep: 'http-response replace-header',
  rspdel: 'http-response del-header',
  rspidel: 'http-response del-header',
  contimeout: 'timeout connect',
  clitimeout: 'timeout client',
  srvtimeout: 'timeout server',
  'bind-process': 'thread groups',
  nbproc: 'nbthread',
}

function goneRules({ global, proxies, defaults }: Graph, report: Report): void {
  const report1 = (line: Line, words: string, instead?: string): void =>
    report.check('DOCTOR_HAPROXY_GONE', true, line, instead ? `${words}, now ${instead}` : words)
  const lines = [global, ...defaults, ...proxies.map(({ section }) => section)].flatMap(
    (section) => section?.lines ?? [],
  )
  for (const line of lines) {
    const [first = '', second = ''] = line.words
    if (Object.hasOwn(gone, first)) report1(line, first, gone[first])
    if (first === 'option' && (second === 'forceclose' || second === 'http-tunnel')) report1(line, `option ${second}`)
    if (first === 'balance' && second === 'leasttime') report1(line, 'balance leasttime')
  }
}
