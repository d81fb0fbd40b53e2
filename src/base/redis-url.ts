import { isIPv6 } from 'node:net'
import { percentDecoded } from './percent.ts'

/** Throws an error that names the option or variable; `problem` continues the sentence. */
export type Reject = (problem: string) => never

export interface HostPort {
  readonly host: string
  readonly port: number
}

/** `host:port`, `host`, or with brackets `[::1]:port`. */
export function hostPort(given: string, defaultPort: number, reject: Reject): HostPort {
  const [, address, name, port = defaultPort] = /^(?:\[([^\]]*)\]|([^\s:@/?#[\]%,]+))(?::(\d{1,5}))?$/.exec(given) ?? []
  const host = name ?? (isIPv6(address ?? '') ? address : undefined)
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535)
    return reject('has an entry that is not `host:port`; write an IPv6 address in brackets')
  return { host, port: Number(port) }
}

/** Nodes of a Redis Cluster. */
export const clusterNodes = (entries: readonly string[], reject: Reject): HostPort[] =>
  entries.map((entry) => hostPort(entry, 6379, reject))

export interface Sentinels {
  /** Name of the primary. */
  readonly name: string
  readonly nodes: readonly HostPort[]
}

/** `primary@host:port,host:port`; the name of the primary defaults to `mymaster`. */
export function sentinels(given: string, reject: Reject): Sentinels {
  const at = given.indexOf('@')
  const name = at === -1 ? 'mymaster' : given.slice(0, at).trim()
  if (!/^[\w.-]+$/.test(name)) return reject('has no valid name of the primary before `@`')
  const entries = given.slice(at + 1).split(',')
  return { name, nodes: entries.map((entry) => hostPort(entry.trim(), 26_379, reject)) }
}

/** A host without a port, or an address. */
export const isHost = (text: string): boolean => isIPv6(text) || /^[^\s:@/?#[\]%,]+$/.test(text)

/** The parts of a URL of Redis, with the names that ioredis gives them. */
export interface RedisUrl {
  readonly host?: string
  readonly port?: number
  /** Of a Unix domain socket. */
  readonly path?: string
  readonly db: number
  readonly family?: 0 | 4 | 6
  readonly username?: string
  readonly password?: string
  readonly isTls: boolean
}

const form =
  'must look like redis://user:password@host:port/db, rediss://… for TLS, or unix:///path/of/socket?db=0; ' +
  'write special characters as %XX'

/** @param reject called with the part that has no effect or is invalid; never with the credentials */
export function redisUrl(given: string, reject: Reject): RedisUrl {
  const url = URL.parse(given)
  const isUnix = url?.protocol === 'unix:'
  const username = percentDecoded(url?.username ?? '')
  const password = percentDecoded(url?.password ?? '')
  const path = percentDecoded(url?.pathname ?? '')
  const isKnown = isUnix || url?.protocol === 'redis:' || url?.protocol === 'rediss:'
  if (!url || !isKnown || username === undefined || password === undefined || path === undefined) return reject(form)
  const [, inPath] = isUnix ? ['', ''] : (/^\/?(\d{0,5})\/?$/.exec(path) ?? [])
  if (inPath === undefined) return reject(`has a path that is not the number of a database; it ${form}`)
  if (isUnix && (url.host !== '' || !path.startsWith('/'))) return reject(form)

  const { db = '', family } = queryOf(url, { db: /^\d{1,5}$/, family: /^[046]$/ }, reject)
  if (db !== '' && inPath !== '' && Number(db) !== Number(inPath))
    return reject('names two databases, in the path and as `?db=`')
  return {
    ...(isUnix ? { path } : url.host === '' ? { host: '127.0.0.1', port: 6379 } : hostPort(url.host, 6379, reject)),
    db: Number(db || inPath),
    ...(family && { family: Number(family) as 0 | 4 | 6 }),
    ...(username && { username }),
    ...(password && { password }),
    isTls: url.protocol === 'rediss:',
  }
}

/** The parameters after `?`. Those that have no effect are rejected, because they would be ignored. */
export function queryOf<K extends string>(
  { searchParams, hash }: URL,
  known: Readonly<Record<K, RegExp>>,
  reject: Reject,
): Partial<Record<K, string>> {
  const names = Object.keys(known).join(', ')
  const found = new Map<string, string>()
  for (const [name, value] of searchParams) {
    // A password with an unescaped `?` ends up here.
    const part = /^[a-z][\w.-]{0,39}$/i.test(name) ? `the part \`?${name}=\`` : 'a part after `?`'
    if (!Object.hasOwn(known, name)) return reject(`has ${part}, which is not supported; supported are ${names}`)
    if (!known[name as K].test(value)) return reject(`has an invalid value in ${part}`)
    if (found.has(name)) return reject(`has ${part} twice`)
    found.set(name, value)
  }
  if (hash !== '') return reject('has a part after `#`, which is not supported; write # as %23')
  return Object.fromEntries(found) as Partial<Record<K, string>>
}
