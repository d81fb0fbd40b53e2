import { duration } from '../durations.ts'
import { type FrontFacts, factAt, type Place, type Reader, type Reading, type Source, violation } from '../facts.ts'
import type { RuleCode } from '../rules.ts'

/** HAProxy's own defaults, ms and counts. */
const defaults = { interMs: 2_000, fall: 3, purgeMs: 5_000 }
const sectionNames =
  /^(?:global|defaults|frontend|backend|listen|resolvers|userlist|peers|cache|ring|program|http-errors|fcgi-app|mailers)$/

/** Characters. */
const maxWord = 8192

interface Line extends Place {
  readonly words: readonly string[]
}
interface Section extends Line {
  readonly kind: string
  readonly lines: Line[]
}

export const readHaproxy: Reader = (sources) => sources.flatMap(readOne)

/** Sections and their lines. Both branches of `.if` are read, because the condition is known only at run time. */
function sections({ file, text }: Source): Section[] {
  const found: Section[] = []
  const presets = new Map<string, string>()
  for (const [index, content] of text.split('\n').entries()) {
    const words = [...content.matchAll(/#.*|((?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\#])+)/g)]
      .filter(([whole]) => !whole.startsWith('#'))
      .map(([whole]) =>
        whole
          .replaceAll(/^["']|["']$/g, '')
          .replaceAll(
            /\$\{?(\w+)(?:-([^}]*))?\}?/g,
            (all, name: string, byDefault?: string) => presets.get(name) ?? byDefault ?? all,
          ),
      )
      // Presets that contain presets can double with each line.
      .filter((word) => word.length <= maxWord)
    const [first = '', ...rest] = words
    if (first === '' || first.startsWith('.')) continue
    const line = { words, file, line: index + 1 }
    if (sectionNames.test(first)) found.push({ ...line, kind: first, lines: [] })
    else found.at(-1)?.lines.push(line)
    if ((first === 'presetenv' || first === 'setenv') && (rest[1] ?? '').length <= 1024)
      presets.set(rest[0] ?? '', rest[1] ?? '')
  }
  return found
}

function readOne(source: Source): Reading[] {
  const all = sections(source)
  const lines = all.flatMap((section) => section.lines)
  const starts = (...words: string[]): Line | undefined =>
    lines.find((line) => words.every((word, index) => line.words[index] === word))
  const readings: Reading[] = []
  const report = (code: RuleCode, at: Line | undefined, detail?: string): void => {
    if (at) readings.push(violation(code, at, detail))
  }
  const shared = all.filter(({ kind }) => kind === 'defaults').flatMap((section) => section.lines)
  const servedBy = new Set(lines.filter(({ words }) => words[0] === 'default_backend').map(({ words }) => words[1]))
  const pools = all.filter(({ kind, lines: own }) => (kind === 'backend' || kind === 'listen') && own.some(isServer))
  for (const pool of pools)
    readings.push(...readPool(pool, shared, servedBy.has(pool.words[1]) || pool.kind === 'listen'))

  const http = pools.length > 0 && !lines.some(({ words }) => words[0] === 'mode' && words[1] === 'tcp')
  if (http && !starts('option', 'forwardfor') && !setsHeader(lines, 'x-forwarded-for'))
    report('DOCTOR_FRONT_ADDRESS', pools[0])
  if (http && !setsHeader(lines, 'x-forwarded-proto')) report('DOCTOR_FRONT_PROTOCOL', pools[0])
  report('DOCTOR_PROBE_ANSWERED_BY_FRONT', starts('monitor-uri') ?? lines.find(({ words }) => respondsToProbe(words)))
  report(
    'DOCTOR_HAPROXY_OPEN_STATS',
    all.find((section) => opensStats(section, shared)),
  )
  report(
    'DOCTOR_HAPROXY_STATS_ADMIN',
    lines.find(({ words }) => words.join(' ').startsWith('stats admin if TRUE')),
  )
  const retry = starts('retry-on')
  if (retry && !lines.some(({ words }) => words[1] === 'disable-l7-retry'))
    report('DOCTOR_HAPROXY_REPEATS_POSTS', retry)
  if (pools.length > 0 && !starts('option', 'redispatch')) report('DOCTOR_HAPROXY_REDISPATCH', shared[0] ?? pools[0])
  for (const gone of ['forceclose', 'http-tunnel'])
    report('DOCTOR_HAPROXY_GONE', starts('option', gone), `option ${gone}`)
  report('DOCTOR_HAPROXY_GONE', starts('balance', 'leasttime'), 'balance leasttime')
  return readings
}

const isServer = ({ words }: Line): boolean => words[0] === 'server' || words[0] === 'server-template'

const setsHeader = (lines: readonly Line[], name: string): boolean =>
  lines.some(
    ({ words }) =>
      words[0] === 'http-request' && /^(?:set|add)-header$/.test(words[1] ?? '') && words[2]?.toLowerCase() === name,
  )

const respondsToProbe = (words: readonly string[]): boolean =>
  words[0] === 'http-request' &&
  words[1] === 'return' &&
  words.includes('200') &&
  /\/(?:health|ready|live)\b/.test(words.join(' '))

const opensStats = ({ lines }: Section, shared: readonly Line[]): boolean => {
  const own = [...shared, ...lines].filter(({ words }) => words[0] === 'stats')
  const shows = lines.some(({ words }) => words[0] === 'stats' && (words[1] === 'enable' || words[1] === 'uri'))
  return shows && !own.some(({ words }) => words[1] === 'auth' || words[1] === 'http-request')
}

function readPool(pool: Section, shared: readonly Line[], isDefault: boolean): Reading[] {
  const { file, line } = pool
  const name = `${pool.kind} ${pool.words[1] ?? ''}`
  const own = [...shared, ...pool.lines]
  const last = (...words: string[]): Line | undefined =>
    own.findLast((one) => words.every((word, index) => one.words[index] === word))
  const servers = pool.lines.filter(isServer)
  const settings = [...own.filter(({ words }) => words[0] === 'default-server'), ...servers]
  const checked = settings.find(({ words }) => words.includes('check') || words.includes('track'))
  const readings: Reading[] = []
  if (isDefault && !checked) readings.push(violation('DOCTOR_HAPROXY_NO_CHECK', servers[0] ?? pool, name))
  const asks = last('option', 'httpchk')
  const sends = last('http-check', 'send')
  const uri = sends?.words[sends.words.indexOf('uri') + 1]
  const path = sends?.words.includes('uri')
    ? uri
    : (asks?.words.find((word) => word.startsWith('/')) ?? (asks ? '/' : undefined))
  if (isDefault && checked && !asks) readings.push(violation('DOCTOR_HAPROXY_NO_HTTPCHK', checked, name))

  const parameter = (key: string): (Line & { value: string }) | undefined => {
    const holder = settings.findLast(({ words }) => words.includes(key))
    return holder && { ...holder, value: holder.words[holder.words.indexOf(key) + 1] ?? '' }
  }
  const ms = (key: string): number | undefined => duration(parameter(key)?.value ?? '', 'ms')
  const inter = ms('inter') ?? defaults.interMs
  const fall = Number(parameter('fall')?.value ?? defaults.fall)
  const timeout = duration(last('timeout', 'check')?.words[2] ?? '', 'ms') ?? inter
  const checks = inter + (fall - 1) * (ms('fastinter') ?? inter) + timeout
  const agent = settings.some(({ words }) => words.includes('agent-check'))
    ? (ms('agent-inter') ?? defaults.interMs)
    : undefined
  const at = parameter('inter') ?? parameter('fall') ?? checked

  const idle = ['http-keep-alive', 'http-request', 'client']
    .map((key) => last('timeout', key))
    .find((found) => found !== undefined)
  const idleMs = duration(idle?.words[2] ?? '', 'ms')
  const front: FrontFacts = {
    role: 'front',
    source: 'haproxy',
    name,
    file,
    line,
    // An idle connection to an instance outlives its client's connection in the pool until the next purge.
    idleMs: idle && idleMs !== undefined ? factAt(idleMs + defaults.purgeMs, idle) : undefined,
    noticeMs: at && checked?.words.includes('check') ? factAt(Math.min(checks, agent ?? checks), at) : undefined,
    readiness: path === undefined ? undefined : factAt(path, sends ?? asks ?? pool),
  }
  return [...readings, front]
}
