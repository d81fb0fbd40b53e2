import type { Graph, ProxySection } from './haproxy-graph.ts'
import { isLocalSocket } from './haproxy-pools.ts'
import { lineAfter } from './haproxy-syntax.ts'
import type { Report } from './report.ts'

/** Rules of what clients reach. */
export function frontendRules({ proxies, defaults }: Graph, pools: readonly ProxySection[], report: Report): void {
  for (const frontend of proxies) {
    if (!frontend.accepts || !frontend.isHttp) continue
    const behind = pools.filter((pool) => pool.routes.some(({ from }) => from === frontend))
    if (behind.length > 0 && !isInternal(frontend)) headerRules(frontend, behind, report)
    if (behind.length > 0) probeRules(frontend, report)
  }
  for (const proxy of proxies) if (proxy.isHttp && proxy.accepts) statsRules(proxy, defaults, report)
}

/** Whether only HAProxy itself connects. */
const isInternal = ({ binds }: ProxySection): boolean =>
  binds.length > 0 && binds.every(({ words }) => isLocalSocket(words[1] ?? ''))

/** Whether a header is set on the way. */
const sets = (proxy: ProxySection, header: string): boolean =>
  proxy
    .all('http-request')
    .some(({ words }) => /^(?:set|add|replace)-header$/.test(words[1] ?? '') && words[2]?.toLowerCase() === header) ||
  [...proxy.all('reqadd'), ...proxy.all('reqrep')].some(({ words }) => words.join(' ').toLowerCase().includes(header))

/** Whether clients name the server, as in a proxy for the internet, which does not tell their addresses. */
const isForwardProxy = (frontend: ProxySection, pool: ProxySection): boolean =>
  [frontend, pool].some((proxy) =>
    [...proxy.all('http-request'), ...proxy.all('tcp-request')].some(({ words }) => words.includes('set-dst')),
  )

function headerRules(frontend: ProxySection, pools: readonly ProxySection[], report: Report): void {
  if (pools.every((pool) => isForwardProxy(frontend, pool))) return
  const behind = pools.filter((pool) => !isForwardProxy(frontend, pool))
  const lacks = (pool: ProxySection, header: string): boolean => !sets(frontend, header) && !sets(pool, header)
  const knowsAddress = (pool: ProxySection): boolean =>
    !!(frontend.option('forwardfor') ?? pool.option('forwardfor') ?? pool.last('source')) ||
    pool.servers.every(
      (server) => server.has('send-proxy') || server.has('send-proxy-v2') || isLocalSocket(server.address),
    )
  /** Whether it is sent in a way that other apps than those of Fastify may read. */
  const sendsOtherwise = (proxy: ProxySection): boolean =>
    proxy.option('forwarded') !== undefined || ['x-real-ip', 'forwarded'].some((name) => sets(proxy, name))
  const address = behind.find((pool) => lacks(pool, 'x-forwarded-for') && !knowsAddress(pool))
  const byAddress = address?.section ?? frontend.section
  report.check('DOCTOR_FRONT_ADDRESS', address !== undefined, byAddress, undefined, {
    ofFleet: address !== undefined && [frontend, address].some(sendsOtherwise),
    edit: lineAfter(byAddress, 'option forwardfor'),
  })

  const isEncrypted = (pool: ProxySection): boolean =>
    pool.servers.every((server) => server.has('ssl') || isLocalSocket(server.address))
  const protocol = behind.find((pool) => lacks(pool, 'x-forwarded-proto') && !isEncrypted(pool))
  const endsTls = frontend.binds.some(({ words }) => words.includes('ssl'))
  const assumed = endsTls ? undefined : 'clients use https up to a proxy before HAProxy, which does not send the header'
  const byProtocol = protocol?.section ?? frontend.section
  report.check('DOCTOR_FRONT_PROTOCOL', protocol !== undefined, byProtocol, undefined, {
    assumed,
    edit: lineAfter(byProtocol, 'http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]'),
  })
}

const probe = /^\/(?:health|ready|live|alive)(?![\w-])/

function probeRules(frontend: ProxySection, report: Report): void {
  const monitor = frontend.last('monitor-uri')
  if (monitor && probe.test(monitor.words[1] ?? '')) {
    // `monitor fail if { nbsrv(…) … }` depends on the instances.
    const depends = frontend.last('monitor', 'fail') !== undefined
    report.check('DOCTOR_PROBE_ANSWERED_BY_FRONT', !depends, monitor, undefined, { ofFleet: true })
  }
  const returns = frontend.all('http-request').find(({ words }) => {
    const condition = words.slice(words.indexOf('if'))
    const named = condition.flatMap((word) => frontend.acls.get(word) ?? []).flatMap((acl) => acl.words.slice(2))
    return words[1] === 'return' && words.includes('200') && [...condition, ...named].some((word) => probe.test(word))
  })
  const isGuarded = returns?.words.some((word) => /nbsrv/.test(word))
  if (returns) report.check('DOCTOR_PROBE_ANSWERED_BY_FRONT', !isGuarded, returns, undefined, { ofFleet: true })
}

/** Loopback addresses of the file itself; one from the environment may be another. */
const isPrivate = ({ binds }: ProxySection): boolean =>
  binds.length > 0 &&
  binds.every(
    ({ words, variable }) =>
      !variable.has(1) && /^(?:127\.|localhost:|\[?::1\]?:|unix@|\/)/.test(words[words[0] === 'listen' ? 2 : 1] ?? ''),
  )

function statsRules(proxy: ProxySection, defaults: Graph['defaults'], report: Report): void {
  const lines = proxy.all('stats')
  const shown = lines.find(({ words }) => words[1] === 'enable' || words[1] === 'uri')
  if (!shown || isPrivate(proxy)) return
  const asks = lines.some(({ words }) => words[1] === 'auth' || words[1] === 'http-request')
  const rejects = [...proxy.all('http-request'), ...proxy.all('tcp-request')].some(({ words }) =>
    words.some((word) => /^(?:auth|deny|reject|silent-drop|tarpit)$/.test(word)),
  )
  const isInherited = proxy.inherited.includes(shown)
  const at = (isInherited && defaults.find((section) => section.lines.includes(shown))) || proxy.section
  report.check('DOCTOR_HAPROXY_OPEN_STATS', !asks && !rejects, at)
  const admin = lines.find(({ words }) => words[1] === 'admin')
  if (admin) report.check('DOCTOR_HAPROXY_STATS_ADMIN', /^admin if TRUE\b/.test(admin.words.slice(1).join(' ')), admin)
}
