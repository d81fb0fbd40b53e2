import { dirname, resolve } from 'node:path'
import { duration } from '../durations.ts'
import {
  escaped,
  type Fact,
  type FrontFacts,
  factAt,
  type Reader,
  type Reading,
  type Source,
  type Variable,
  violation,
} from '../facts.ts'
import type { RuleCode } from '../rules.ts'
import { type Directive, parseNginx } from './nginx-syntax.ts'

/** nginx's own defaults. */
const defaults = { keepaliveMs: 60_000, failMs: 10_000 }
/** Methods that reject `backup`. */
const withoutBackup = new Set(['ip_hash', 'hash', 'random'])
/** Includes followed per main file; real configurations have dozens. */
const maxIncludes = 1000
const probes = /\/(?:\((?:\?:)?)?(?:health|ready|live|alive)\b/

/** Reads main files with their includes, and fragments that no file includes. */
export const readNginx: Reader = (sources, variables) => {
  const trees = new Map(sources.map((source) => [resolve(source.file), parse(source, variables)]))
  const included = new Set<string>()
  const expanded = [...trees].map(([path, tree]) => ({
    path,
    tree: expand(tree, dirname(path), trees, included, [path], { left: maxIncludes }),
  }))
  const roots = expanded.filter(({ path }) => !included.has(path))
  // Beside a main file, other fragments are alternatives, so nothing can be missing in them.
  const isMain = (tree: readonly Directive[]): boolean => tree.some(({ name }) => name === 'http')
  const hasMain = roots.some(({ tree }) => isMain(tree))
  return roots.flatMap(({ tree }) => readTree(tree, !hasMain || isMain(tree)))
}

const parse = ({ file, text }: Source, variables: ReadonlyMap<string, Variable>): Directive[] =>
  parseNginx(
    file,
    text.replaceAll(/\$\{(\w+)\}/g, (whole, name: string) => {
      return variables.get(name)?.value || (derived(name, variables) ?? variables.get(name)?.value ?? whole)
    }),
  )

/** Values of the shipped templates that scripts/nginx-render derives, for the default pool. */
function derived(name: string, variables: ReadonlyMap<string, Variable>): string | undefined {
  if (name === 'FLEET_POOL_NAME') return 'default'
  if (name === 'FLEET_POOL_SUFFIX') return ''
  if (name === 'FLEET_LAST_RESORT') return 'server fleet max_fails=0;'
  const timeout = variables.get('FLEET_FAIL_TIMEOUT')?.value
  return name === 'FLEET_SERVERS' && timeout ? `server fleet max_fails=1 fail_timeout=${timeout};` : undefined
}

/**
 * Replaces `include` with the files it matches, relative to the main file's folder. A recursive include is skipped: nginx
 * would not start, and the includes would multiply.
 */
function expand(
  tree: readonly Directive[],
  folder: string,
  trees: ReadonlyMap<string, readonly Directive[]>,
  included: Set<string>,
  within: readonly string[],
  budget: { left: number },
): Directive[] {
  return tree.flatMap((directive): Directive[] => {
    if (directive.name === 'include') {
      return named(directive.args[0] ?? '', folder, trees.keys()).flatMap((path) => {
        const found = trees.get(path)
        if (!found || within.includes(path) || budget.left <= 0) return []
        budget.left--
        included.add(path)
        return expand(found, folder, trees, included, [...within, path], budget)
      })
    }
    return [
      directive.block
        ? { ...directive, block: expand(directive.block, folder, trees, included, within, budget) }
        : directive,
    ]
  })
}

/** Matches among the given files. The official image makes `conf.d/x.conf` from `templates/x.conf.template`. */
function named(pattern: string, folder: string, files: Iterable<string>): string[] {
  const template = pattern.replace(/(^|\/)conf\.d\//, '$1templates/')
  const patterns = template === pattern ? [pattern] : [pattern, `${template}.template`]
  const all = [...files]
  return patterns.flatMap((one) => all.filter(globbed(resolve(folder, one))).sort())
}

/** As in glob(3), which nginx uses, `*` and `?` do not match `/`. */
function globbed(pattern: string): (path: string) => boolean {
  const source = pattern.replace(/\*+|\?|\[[^\]/]+\]|[^*?[]|\[/g, (part) => {
    if (part.startsWith('*')) return '[^/]*'
    if (part === '?') return '[^/]'
    return part.length > 1 ? `[${part.slice(1, -1).replace(/^!/, '^').replace(/[\\[]/g, '\\$&')}]` : escaped(part)
  })
  try {
    const wanted = new RegExp(`^${source}$`)
    return (path) => wanted.test(path)
  } catch {
    // A class such as `[z-a]` matches nothing.
    return () => false
  }
}

const walk = (tree: readonly Directive[]): Directive[] =>
  tree.flatMap((directive) => [directive, ...(directive.block ? walk(directive.block) : [])])

function readTree(tree: readonly Directive[], whole: boolean): Reading[] {
  const all = walk(tree)
  const readings: Reading[] = []
  const report = (code: RuleCode, at: Directive | undefined, detail?: string): void => {
    if (at) readings.push(violation(code, at, detail))
  }
  const proxied = all.find(({ name, args }) => name === 'proxy_pass' && /^https?:/.test(args[0] ?? ''))
  const headers = all.filter(({ name }) => name === 'proxy_set_header')
  const header = (wanted: string): Directive[] => headers.filter(({ args }) => args[0]?.toLowerCase() === wanted)

  report(
    'DOCTOR_REPEATS_POSTS',
    all.find(({ name, args }) => name === 'proxy_next_upstream' && args.includes('non_idempotent')),
  )
  report(
    'DOCTOR_NGINX_CONNECTION',
    header('connection').find(({ args }) => /^(?:upgrade|close)$/i.test(args[1] ?? '')),
  )
  if (whole && proxied && header('x-forwarded-for').length === 0) report('DOCTOR_FRONT_ADDRESS', proxied)
  if (whole && proxied && header('x-forwarded-proto').length === 0) report('DOCTOR_FRONT_PROTOCOL', proxied)
  report(
    'DOCTOR_PROBE_ANSWERED_BY_FRONT',
    all.find(
      ({ name, args, block }) =>
        name === 'location' &&
        probes.test(args.at(-1) ?? '') &&
        block?.some((inner) => inner.name === 'return' && /^2\d\d$/.test(inner.args[0] ?? '')),
    ),
  )
  for (const name of ['health_check', 'check', 'slow_start', 'least_time', 'queue'])
    report(
      'DOCTOR_NGINX_PLUS',
      all.find((directive) => directive.name === name),
      name,
    )

  const upstreams = all.filter(({ name, block }) => name === 'upstream' && block)
  for (const upstream of upstreams) readings.push(...readUpstream(upstream, proxied !== undefined))
  const version = all.find(({ name }) => name === 'proxy_http_version')
  const keeps = upstreams.find(({ block = [] }) => block.some(({ name }) => name === 'keepalive'))
  if (proxied && keeps && (version === undefined || version.args[0] === '1.0'))
    report('DOCTOR_NGINX_HTTP_VERSION', version ?? keeps)
  return readings
}

function readUpstream({ block = [], ...upstream }: Directive, http: boolean): Reading[] {
  const readings: Reading[] = []
  const { file, line } = upstream
  const name = upstream.args[0] ?? 'upstream'
  const servers = block.filter((directive) => directive.name === 'server')
  if (servers.length === 0 || !http) return []
  const method = block.find((directive) => withoutBackup.has(directive.name))
  const backup = servers.find(({ args }) => args.includes('backup'))
  if (method && backup) readings.push(violation('DOCTOR_NGINX_BACKUP', backup, method.name))
  const keepalive = block.find((directive) => directive.name === 'keepalive')
  if (!keepalive) readings.push(violation('DOCTOR_NGINX_NO_KEEPALIVE', upstream, name))

  const timeout = block.find((directive) => directive.name === 'keepalive_timeout')
  const idle = timeout ? duration(timeout.args[0] ?? '') : defaults.keepaliveMs
  const avoids = servers.map((server) => avoid(server)).filter((fact) => fact !== undefined)
  const shortest = avoids.sort((a, b) => a.value - b.value)[0]
  const front: FrontFacts = {
    role: 'front',
    source: 'nginx',
    name: `upstream ${name}`,
    file,
    line,
    idleMs: keepalive && idle !== undefined ? factAt(idle, timeout ?? keepalive) : undefined,
    avoidMs: shortest,
  }
  return [...readings, front]
}

/** With `max_fails=0` nginx never avoids an instance, which is right for a last resort. */
function avoid(server: Directive): Fact<number> | undefined {
  const parameter = (name: string): string | undefined =>
    server.args.find((arg) => arg.startsWith(`${name}=`))?.slice(name.length + 1)
  if (parameter('max_fails') === '0') return undefined
  const ms = duration(parameter('fail_timeout') ?? String(defaults.failMs / 1_000))
  return ms === undefined ? undefined : factAt(ms, server)
}
