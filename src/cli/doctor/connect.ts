import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { percentDecoded } from '../../base/percent.ts'
import type { Instance, Variable } from './facts.ts'
import { type Finding, found } from './judge.ts'
import { others } from './traps.ts'

/** A server that is there answers in this time, also on a machine that is busy with other things, ms. */
const patienceMs = 10_000

/** Asks the Redis and the databases that `.env` files name. Addresses in other files are those of other networks. */
export async function judgeConnections(instances: readonly Instance[]): Promise<Finding[]> {
  const own = instances.filter(({ source }) => source === 'environment')
  return (await Promise.all(own.flatMap(({ env }) => [askRedis(env), ...askDatabases(env)]))).flat()
}

async function askRedis(env: ReadonlyMap<string, Variable>): Promise<Finding[]> {
  const given = env.get('REDIS_URL') ?? env.get('REDIS_HOST')
  if (!given?.value) return []
  const parts = URL.parse(given.value)
  const url = env.has('REDIS_URL') ? parts : undefined
  const host = url?.hostname ?? given.value
  const port = Number(url ? url.port || 6379 : (env.get('REDIS_PORT')?.value ?? 6379))
  const tls = url ? url.protocol === 'rediss:' : /^(?:1|true)$/i.test(env.get('REDIS_TLS')?.value ?? '')
  const password = url ? (percentDecoded(url.password) ?? url.password) : (env.get('REDIS_PASSWORD')?.value ?? '')
  const user = url ? (percentDecoded(url.username) ?? url.username) : ''
  const auth = password === '' ? '' : resp('AUTH', ...(user === '' ? [] : [user]), password)
  const answer = await ask(host, port, tls, `${auth}${resp('PING')}`, /\+PONG|-[^\r\n]*/)
  if (answer.text.includes('+PONG')) return []
  return [found(others.redis, given, `${host}:${port}: ${answer.error ?? answer.text}`)]
}

const resp = (...words: string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`

function askDatabases(env: ReadonlyMap<string, Variable>): Promise<Finding[]>[] {
  const named = [...env].filter(([name]) => /^DATABASE_(?:URL(?:_REPLICA_\d+)?|REPLICA_URLS)$/.test(name))
  return named.flatMap(([, variable]) =>
    (variable.value ?? '').split(',').map(async (text) => {
      const url = URL.parse(text.trim())
      if (!url?.hostname) return []
      const port = Number(url.port || 5432)
      // SSLRequest: every PostgreSQL answers it with one letter, before any password.
      const answer = await ask(url.hostname, port, false, Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]), /^[SNE]/)
      return answer.error === undefined
        ? []
        : [found(others.database, variable, `${url.hostname}:${port}: ${answer.error}`)]
    }),
  )
}

/** Sends once and waits for an answer that matches. */
function ask(
  host: string,
  port: number,
  tls: boolean,
  sent: string | Buffer,
  until: RegExp,
): Promise<{ text: string; error?: string }> {
  const { promise, resolve } = Promise.withResolvers<{ text: string; error?: string }>()
  let text = ''
  // Node throws for a port that is none.
  if (!(port > 0 && port < 65_536)) return Promise.resolve({ text, error: 'not a TCP port' })
  const socket: Socket = tls ? connectTls({ host, port, servername: host }) : connectTcp({ host, port })
  const end = (error?: string): void => {
    socket.destroy()
    resolve({ text, error })
  }
  socket.setTimeout(patienceMs, () => end(`no answer in ${patienceMs / 1_000} s`))
  socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
  socket.once('close', () => end('the connection was closed'))
  socket.once(tls ? 'secureConnect' : 'connect', () => socket.write(sent))
  socket.on('data', (data) => {
    text += data.toString('latin1')
    if (until.test(text)) end()
  })
  return promise
}
