import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { percentDecoded } from '../../base/percent.ts'
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
  // Another rule reports an invalid URL, without showing it.
  if (env.has('REDIS_URL') && !url) return []
  const host = url?.hostname ?? given.value
  const port = Number(url ? url.port || 6379 : (env.get('REDIS_PORT')?.value ?? 6379))
  const tls = url ? url.protocol === 'rediss:' : /^(?:1|true)$/i.test(env.get('REDIS_TLS')?.value ?? '')
  const password = url ? (percentDecoded(url.password) ?? url.password) : (env.get('REDIS_PASSWORD')?.value ?? '')
  const user = url ? (percentDecoded(url.username) ?? url.username) : ''
  // The file may be untrusted: only a login must reach the server, whatever protocol it speaks.
  if (/\p{Cc}/u.test(user + password))
    return [found('DOCTOR_REDIS_UNREACHABLE', given, 'the login contains control characters')]
  const auth = password === '' ? '' : resp('AUTH', ...(user === '' ? [] : [user]), password)
  const response = await exchange(host, port, tls, `${auth}${resp('PING')}`, /\+PONG|-[^\r\n]*/)
  if (response.text.includes('+PONG')) return []
  return [found('DOCTOR_REDIS_UNREACHABLE', given, `${host}:${port}: ${response.error ?? response.text}`)]
}

const resp = (...words: string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`

function databaseChecks(env: ReadonlyMap<string, Variable>): (() => Promise<Finding[]>)[] {
  const named = [...env].filter(([name]) => /^DATABASE_(?:URL(?:_REPLICA_\d+)?|REPLICA_URLS)$/.test(name))
  return named.flatMap(([, variable]) =>
    (variable.value ?? '').split(',').map((text) => async () => {
      const url = URL.parse(text.trim())
      if (!url?.hostname) return []
      const port = Number(url.port || 5432)
      // SSLRequest: PostgreSQL responds with one letter before it asks for a password.
      const { error } = await exchange(url.hostname, port, false, Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]), /^[SNE]/)
      return error === undefined
        ? []
        : [found('DOCTOR_DATABASE_UNREACHABLE', variable, `${url.hostname}:${port}: ${error}`)]
    }),
  )
}

/** Sends once and waits for a response that matches `until`. */
function exchange(
  host: string,
  port: number,
  tls: boolean,
  sent: string | Buffer,
  until: RegExp,
): Promise<{ text: string; error?: string }> {
  const { promise, resolve } = Promise.withResolvers<{ text: string; error?: string }>()
  let text = ''
  // Node throws for an invalid port.
  if (!(port > 0 && port < 65_536)) return Promise.resolve({ text, error: 'not a TCP port' })
  const socket: Socket = tls ? connectTls({ host, port, servername: host }) : connectTcp({ host, port })
  const end = (error?: string): void => {
    clearTimeout(timer)
    socket.destroy()
    resolve({ text, error })
  }
  const timer = setTimeout(() => end(`no response in ${timeoutMs / 1_000} s`), timeoutMs)
  socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
  socket.once('close', () => end('the connection was closed'))
  socket.once(tls ? 'secureConnect' : 'connect', () => socket.write(sent))
  socket.on('data', (data) => {
    text += data.toString('latin1', 0, 1024)
    if (text.length > 4096) end('not the response of such a server')
    if (until.test(text)) end()
  })
  return promise
}
