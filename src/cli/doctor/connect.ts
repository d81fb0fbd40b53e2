import { percentDecoded } from '../../base/percent.ts'
import { exchange } from '../exchange.ts'
import { type Finding, found } from './evaluate.ts'
import type { InstanceFacts, Variable } from './facts.ts'

/** A running server responds within this time, even on a busy machine; ms. */
const timeoutMs = 10_000
/** A file must not make this process scan a network. */
const maxServers = 32

/** Connects to the Redis and the databases in `.env` files. Addresses in other files belong to other networks. */
export async function checkConnections(instances: readonly InstanceFacts[]): Promise<Finding[]> {
  const own = instances.filter(({ source }) => source === 'environment')
  const checks = own.flatMap(({ env }) => [() => checkRedis(env), ...databaseChecks(env)])
  return (await Promise.all(checks.slice(0, maxServers).map((check) => check()))).flat()
}

async function checkRedis(env: ReadonlyMap<string, Variable>): Promise<Finding[]> {
  const given = env.get('REDIS_URL') ?? env.get('REDIS_HOST')
  if (!given?.value) return []
  const parts = URL.parse(given.value)
  const url = env.has('REDIS_URL') ? parts : undefined
  // Another rule reports an invalid URL, without showing it. A Unix domain socket has no host.
  if (env.has('REDIS_URL') && !url?.hostname) return []
  const host = url?.hostname ?? given.value
  const port = Number(url ? url.port || 6379 : (env.get('REDIS_PORT')?.value ?? 6379))
  const tls = url ? url.protocol === 'rediss:' : /^(?:1|true)$/i.test(env.get('REDIS_TLS')?.value ?? '')
  const password = url ? (percentDecoded(url.password) ?? url.password) : (env.get('REDIS_PASSWORD')?.value ?? '')
  const user = url ? (percentDecoded(url.username) ?? url.username) : ''
  // The file may be untrusted: only a login must reach the server, whatever protocol it speaks.
  if (/\p{Cc}/u.test(user + password))
    return [found('DOCTOR_REDIS_UNREACHABLE', given, 'the login contains control characters')]
  const auth = password === '' ? '' : resp('AUTH', ...(user === '' ? [] : [user]), password)
  const response = await exchange({ host, port, tls, timeoutMs }, `${auth}${resp('PING')}`, /\+PONG|-[^\r\n]*/)
  if (response.text.includes('+PONG')) return []
  // Of several replies, the first error is the cause.
  const why = response.error ?? /-[^\r\n]*/.exec(response.text)?.[0]
  return [found('DOCTOR_REDIS_UNREACHABLE', given, `${host}:${port}: ${why}`)]
}

const resp = (...words: string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`

/** PostgreSQL responds to SSLRequest with one letter before it asks for a password. */
const sslRequest: Buffer = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

function databaseChecks(env: ReadonlyMap<string, Variable>): (() => Promise<Finding[]>)[] {
  const named = [...env].filter(([name]) => /^DATABASE_(?:URL(?:_REPLICA_\d+)?|REPLICA_URLS)$/.test(name))
  return named.flatMap(([, variable]) =>
    (variable.value ?? '').split(',').map((text) => async () => {
      const url = URL.parse(text.trim())
      if (!url?.hostname) return []
      const port = Number(url.port || 5432)
      const { error } = await exchange({ host: url.hostname, port, timeoutMs }, sslRequest, /^[SNE]/)
      return error === undefined
        ? []
        : [found('DOCTOR_DATABASE_UNREACHABLE', variable, `${url.hostname}:${port}: ${error}`)]
    }),
  )
}
