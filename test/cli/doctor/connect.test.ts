import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { after, describe, it } from 'node:test'
import { checkConnections } from '../../../src/cli/doctor/connect.ts'
import { until } from '../../helpers/until.ts'
import { instance, variables } from './readings.ts'

/** A server that sends a response to the first data, and closes with the tests. */
async function server(response: string) {
  const received: Buffer[] = []
  const sockets: Socket[] = []
  const listening = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (data) => {
      received.push(data)
      if (response !== '') socket.write(response)
    })
  })
  listening.listen(0, '127.0.0.1')
  await once(listening, 'listening')
  after(() => {
    for (const socket of sockets) socket.destroy()
    listening.close()
  })
  const { port } = listening.address() as { port: number }
  return { port, sockets, received: () => Buffer.concat(received).toString('latin1') }
}

const file = (env: Record<string, string>) => instance({ source: 'environment', env: variables(env) })
const check = async (env: Record<string, string>): Promise<string[]> =>
  (await checkConnections([file(env)])).map(({ code, line, message }) => `${code}:${line} ${message}`)

const pong = '+OK\r\n+PONG\r\n'
/** As RESP, one character per byte. */
const word = (text: string): string => `$${Buffer.byteLength(text)}\r\n${Buffer.from(text).toString('latin1')}\r\n`

describe('the Redis of a file', () => {
  it('is asked with the decoded user and password, which come before PING', async () => {
    const { port, received } = await server(pong)
    assert.deepEqual(await check({ REDIS_URL: `redis://us%C3%A9r:p%40%C3%9F@127.0.0.1:${port}/1` }), [])
    assert.equal(received(), `*3\r\n${word('AUTH')}${word('usér')}${word('p@ß')}*1\r\n${word('PING')}`)
  })

  it('is that of REDIS_URL, whatever the other variables are', async () => {
    const [used, other] = [await server(pong), await server(pong)]
    const others = { REDIS_HOST: '127.0.0.1', REDIS_PORT: `${other.port}`, REDIS_PASSWORD: 'x' }
    assert.deepEqual(await check({ ...others, REDIS_URL: `redis://127.0.0.1:${used.port}` }), [])
    assert.deepEqual([used.sockets.length, other.sockets.length], [1, 0])
  })

  it('has a host, port and password of their own variables', async () => {
    const { port, received } = await server(pong)
    assert.deepEqual(await check({ REDIS_HOST: '127.0.0.1', REDIS_PORT: `${port}`, REDIS_PASSWORD: 'k3y' }), [])
    assert.equal(received(), `*2\r\n${word('AUTH')}${word('k3y')}*1\r\n${word('PING')}`)
  })

  it('is asked over TLS with rediss: and REDIS_TLS', async () => {
    for (const tls of ['url', '1', 'true']) {
      const { port, received, sockets } = await server('')
      const env: Record<string, string> =
        tls === 'url'
          ? { REDIS_URL: `rediss://127.0.0.1:${port}` }
          : { REDIS_HOST: '127.0.0.1', REDIS_PORT: `${port}`, REDIS_TLS: tls }
      const found = check(env)
      await until(() => received() !== '')
      sockets[0]?.destroy()
      assert.match((await found)[0] ?? '', /^DOCTOR_REDIS_UNREACHABLE/)
      // The type of the record of a ClientHello.
      assert.equal(received().charCodeAt(0), 22, tls)
    }
  })

  it('is not contacted with control characters in the user or the password', async () => {
    const { port, sockets } = await server(pong)
    for (const login of ['us%0D%0Aer:p', 'user:p%0D%0A', ':%00', '%0A:'])
      assert.match(
        (await check({ REDIS_URL: `redis://${login}@127.0.0.1:${port}` })).join(),
        /control characters/,
        login,
      )
    assert.equal(sockets.length, 0)
  })

  it('is reported with its error, or if it is no Redis', async () => {
    const rejecting = await server('-NOAUTH Authentication required.\r\n-ERR\r\n')
    assert.deepEqual(await check({ PORT: '1', REDIS_URL: `redis://127.0.0.1:${rejecting.port}` }), [
      `DOCTOR_REDIS_UNREACHABLE:11 Redis is unreachable (127.0.0.1:${rejecting.port}: -NOAUTH Authentication required.)`,
    ])
    const web = await server('HTTP/1.1 400 Bad Request')
    const found = check({ REDIS_URL: `redis://127.0.0.1:${web.port}` })
    await until(() => web.received() !== '')
    web.sockets[0]?.destroy()
    assert.match((await found)[0] ?? '', /the connection was closed/)
  })

  it('has ten seconds for its response', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const { port, sockets, received } = await server('')
    const found = check({ REDIS_URL: `redis://127.0.0.1:${port}` })
    while (received() === '') await new Promise((resolve) => setImmediate(resolve))
    t.mock.timers.tick(10_000)
    sockets[0]?.destroy()
    assert.match((await found)[0] ?? '', /no response in 10 s/)
  })
})

describe('the databases of a file', () => {
  it('are asked for TLS on their own ports, and are reported if they respond otherwise', async () => {
    const [primary, replica, other] = [await server('N'), await server('S'), await server('HTTP/1.1 400\r\n')]
    const url = ({ port }: { port: number }): string => `postgresql://shop@127.0.0.1:${port}/shop`
    const env = {
      DATABASE_URL: url(primary),
      DATABASE_URL_REPLICA_1: url(replica),
      DATABASE_REPLICA_URLS: `${url(replica)}, ${url(other)}`,
    }
    const found = check(env)
    await until(() => other.received().length === 8)
    other.sockets[0]?.destroy()
    const [problem, ...more] = await found
    assert.deepEqual(more, [])
    assert.match(problem ?? '', new RegExp(`^DOCTOR_DATABASE_UNREACHABLE:12 .*127\\.0\\.0\\.1:${other.port}: `))
    assert.deepEqual([primary.sockets.length, replica.sockets.length], [1, 2])
    assert.deepEqual([...Buffer.from(primary.received(), 'latin1')], [0, 0, 0, 8, 4, 210, 22, 47])
  })
})

it('contacts no server that another kind of file names', async () => {
  const { port, sockets } = await server(pong)
  const env = variables({ REDIS_URL: `redis://127.0.0.1:${port}`, DATABASE_URL: `postgresql://127.0.0.1:${port}/a` })
  const others = (['compose', 'kubernetes', 'systemd', 'pm2', 'ecs', 'image', 'app'] as const).map((source) =>
    instance({ source, env }),
  )
  assert.deepEqual(await checkConnections(others), [])
  assert.equal(sockets.length, 0)
})
