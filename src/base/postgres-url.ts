import { percentDecoded } from './percent.ts'
import { queryOf, type Reject } from './redis-url.ts'

/**
 * One URL for each host of a PostgreSQL URL such as `postgresql://user@one:5432,two:5432/shop`, as in libpq
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS). Most URLs have one host.
 */
export function hostUrls(url: string): readonly string[] {
  const [, head = '', hosts = '', tail = ''] = /^([^:]*:\/\/(?:[^@/?#]*@)?)([^/?#]*)(.*)$/s.exec(url) ?? []
  return hosts.includes(',') ? hosts.split(',').map((host) => head + host + tail) : [url]
}

const text = /^[^\0]+$/s
const milliseconds = /^\d{1,9}$/
const seconds = /^[1-9]\d{0,3}$/

/** Parameters that have an effect. `pg` reads those of the first group by itself. */
const parameters = {
  application_name: text,
  fallback_application_name: text,
  client_encoding: /^utf-?8$/i,
  host: text,
  options: text,
  port: /^\d{1,5}$/,
  ssl: /^(?:true|1|0)$/,
  sslmode: /^(?:disable|prefer|require|verify-ca|verify-full|no-verify)$/,
  sslcert: text,
  sslkey: text,
  sslrootcert: text,
  sslnegotiation: /^(?:postgres|direct)$/,
  uselibpqcompat: /^(?:true|false)$/,
  lock_timeout: milliseconds,
  idle_in_transaction_session_timeout: milliseconds,

  schema: text,
  connection_limit: /^(?:[1-9]\d?|100)$/,
  connect_timeout: seconds,
  pool_timeout: seconds,
  statement_timeout: /^[1-9]\d{0,8}$/,
  target_session_attrs: /^(?:any|read-write|primary)$/,
  pgbouncer: /^(?:true|false)$/,
  // Prisma's documentation adds it for PgBouncer. `pg` has no such cache.
  statement_cache_size: /^0$/,
}

/** What a PostgreSQL URL says beyond server, login and database. */
export interface PostgresSettings {
  readonly schema?: string
  /** Connections per server. */
  readonly connectionLimit?: number
  /** Longest wait for a new connection. */
  readonly connectTimeoutMs?: number
  /** Longest wait for a free connection. */
  readonly poolTimeoutMs?: number
  readonly statementTimeoutMs?: number
  readonly pgbouncer?: boolean
  /** Whether only a server that accepts writes will do. By default that is so if there are several. */
  readonly isWritable: boolean
}

/**
 * Validates a PostgreSQL URL.
 *
 * @param reject called with the part that has no effect or is invalid; never with the credentials
 */
export function postgresSettings(given: string, reject: Reject): PostgresSettings {
  const urls = hostUrls(given)
  // libpq and `pg` allow no host after a login, for `?host=/path/of/socket`; WHATWG's URL does not.
  const [url, ...more] = urls.map((each) => URL.parse(each.replace(/^([^:]*:\/\/[^@/?#]*@)(?=[/?#]|$)/, '$1localhost')))
  const all = [url, ...more]
  const isValid = all.every(
    (each) =>
      each &&
      ['postgres:', 'postgresql:'].includes(each.protocol) &&
      [each.username, each.password, each.pathname].every((part) => percentDecoded(part) !== undefined),
  )
  if (!url || !isValid)
    return reject('must be a URL that starts with postgres: or postgresql:; write special characters as %XX')
  const query = queryOf(url, parameters, reject)
  if (more.length > 0 && (query.host ?? query.port))
    return reject('has several hosts and the part `?host=` or `?port=`, which replaces them all')
  const wanted = query.target_session_attrs
  const inMs = (value: string | undefined): number | undefined =>
    value === undefined ? undefined : Number(value) * 1000
  return {
    schema: query.schema,
    connectionLimit: query.connection_limit === undefined ? undefined : Number(query.connection_limit),
    connectTimeoutMs: inMs(query.connect_timeout),
    poolTimeoutMs: inMs(query.pool_timeout),
    statementTimeoutMs: query.statement_timeout === undefined ? undefined : Number(query.statement_timeout),
    pgbouncer: query.pgbouncer === undefined ? undefined : query.pgbouncer === 'true',
    isWritable: wanted === undefined ? more.length > 0 : wanted !== 'any',
  }
}
