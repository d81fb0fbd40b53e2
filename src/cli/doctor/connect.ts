import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { percentDecoded } from '../../base/percent.ts'
import { type Finding, found } from './evaluate.ts'
import type { Instance, Variable } from './facts.ts'
import { others } from './rules.ts'

/** A server that is there answers in this time, also on a machine that is busy with other things, ms. */
const patienceMs = 10_000
/** Servers that are asked: no file can make this process ask a whole network. */
const mostQuestions = 32

/** Asks the Redis and the databases that `.env` files name. Addresses in other files are those of other networks. */
export async function judgeConnections(instances: readonly Instance[]): Promise<Finding[]> {
  const own = instances.filter(({ source }) => source === 'environment')
  const questions = own.flatMap(({ env }) => [() => askRedis(env), ...askDatabases(env)])
  return (await Promise.all(questions.slice(0, mostQuestions).map((ask) => ask()))).flat()
}

async function askRedis(env: ReadonlyMap<string, Variable>): Promise<Finding[]> {
  const given = env.get('REDIS_URL') ?? env.get('REDIS_HOST')
  if (!given?.value) return []
  const parts = URL.parse(given.value)
  const url = env.has('REDIS_URL') ? parts : undefined
  // That it is no URL is another finding, which does not show it.
  if (env.has('REDIS_URL') && !url) return []
  const host = url?.hostname ?? given.value
  const port = Number(url ? url.port || 6379 : (env.get('REDIS_PORT')?.value ?? 6379))
  const tls = url ? url.protocol === 'rediss:' : /^(?:1|true)$/i.test(env.get('REDIS_TLS')?.value ?? '')
  const password = url ? (percentDecoded(url.password) ?? url.password) : (env.get('REDIS_PASSWORD')?.value ?? '')
  const user = url ? (percentDecoded(url.username) ?? url.username) : ''
  // The file may be anybody's: nothing but a login is sent for it, whatever listens there.
  if (/\p{Cc}/u.test(user + password)) return [found(others.redis, given, 'its login has control characters')]
  const auth = password === '' ? '' : resp('AUTH', ...(user === '' ? [] : [user]), password)
  const answer = await ask(host, port, tls, `${auth}${resp('PING')}`, /\+PONG|-[^\r\n]*/)
  if (answer.text.includes('+PONG')) return []
  return [found(others.redis, given, `${host}:${port}: ${answer.error ?? answer.text}`)]
}

const resp = (...words: string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`

function askDatabases(env: ReadonlyMap<string, Variable>): (() => Promise<Finding[]>)[] {
  const named = [...env].filter(([name]) => /^DATABASE_(?:URL(?:_REPLICA_\d+)?|REPLICA_URLS)$/.test(name))
  return named.flatMap(([, variable]) =>
    (variable.value ?? '').split(',').map((text) => async () => {
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
    clearTimeout(timer)
    socket.destroy()
    resolve({ text, error })
  }
  const timer = setTimeout(() => end(`no answer in ${patienceMs / 1_000} s`), patienceMs)
  socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
  socket.once('close', () => end('the connection was closed'))
  socket.once(tls ? 'secureConnect' : 'connect', () => socket.write(sent))
  socket.on('data', (data) => {
    text += data.toString('latin1', 0, 1024)
    if (text.length > 4096) end('not the answer of such a server')
    if (until.test(text)) end()
  })
  return promise
}
