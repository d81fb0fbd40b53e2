import assert from 'node:assert/strict'
import { once } from 'node:events'
import net, { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { after, describe, it, type TestContext } from 'node:test'
import { createTcpProxy, type TcpProxy, type TcpProxyOptions } from '../../../src/edge/tcp/index.ts'
import { freePort } from '../../helpers/free-port.ts'
import { liveObjects } from '../../helpers/live-objects.ts'
import { mockBuiltins } from '../../helpers/mock-builtins.ts'
import { until } from '../../helpers/until.ts'
import { get, quickProbe } from '../front.ts'
import { listensAfterProbes } from '../probes-first.ts'
import { startUpstreams } from '../upstream.ts'

interface Peer {
  server: Server
  url: string
  sockets: Set<Socket>
}

/** A TCP server; `serve` is not called for connections that close without a byte, as probes do. */
async function peer(serve: (socket: Socket) => void, port?: number): Promise<Peer> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    serve(socket)
  })
  // A reserved port: the kernel could give one of its own choice to another process once it is closed.
  await once(server.listen(port ?? (await freePort()), '127.0.0.1'), 'listening')
  after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { server, url: `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`, sockets }
}

async function proxyTo(
  peers: readonly { url: string }[],
  options: Partial<TcpProxyOptions> = {},
): Promise<{ proxy: TcpProxy; port: number }> {
  const proxy = createTcpProxy({ targets: peers.map(({ url }) => url), probe: quickProbe, ...options })
  after(() => proxy.close())
  await proxy.listen()
  return { proxy, port: proxy.address?.port ?? 0 }
}

async function talk(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1').setEncoding('utf8')
  socket.end(text)
  return (await socket.toArray()).join('')
}

/** A kernel that drops the packets to one target. @returns the connections to it, which are never established */
function drop(t: TestContext, target?: Peer): Socket[] {
  const silent = Number(new URL(target?.url ?? '').port)
  const original = net.connect
  const attempts: Socket[] = []
  mockBuiltins(t, () =>
    t.mock.method(net, 'connect', (options: { port: number }) => {
      if (options.port !== silent) return original(options as never)
      const socket = new net.Socket()
      attempts.push(socket)
      return socket
    }),
  )
  return attempts
}

const named = (name: string) => (socket: Socket) => {
  socket.on('data', () => {})
  socket.on('end', () => socket.end(name))
}

describe('a TCP proxy', () => {
  it('forwards bytes in both directions, and each end separately', async () => {
    const echo = await peer((socket) => {
      let text = ''
      socket.on('data', (chunk) => {
        text += chunk
      })
      socket.on('end', () => socket.end(text.toUpperCase()))
    })
    const { port, proxy } = await proxyTo([echo])
    assert.equal(await talk(port, 'hello'), 'HELLO')
    const long = 'x'.repeat(3_000_000)
    assert.equal(await talk(port, long), long.toUpperCase())
    await until(() => proxy.targets[0]?.inflight === 0)
  })

  it('chooses a target per connection', async () => {
    const peers = await Promise.all(['a', 'b', 'c'].map((name) => peer(named(name))))
    const { port } = await proxyTo(peers)
    const names = await Promise.all(Array.from({ length: 6 }, () => talk(port, 'x')))
    assert.deepEqual(names.toSorted(), ['a', 'a', 'b', 'b', 'c', 'c'])
  })

  it('connects to another target when one refuses', async () => {
    const peers = await Promise.all(['a', 'b'].map((name) => peer(named(name))))
    const { port, proxy } = await proxyTo(peers, { probe: { ...quickProbe, intervalMs: 60_000 } })
    peers[0]?.server.close()
    for (let i = 0; i < 4; i++) assert.equal(await talk(port, 'x'), 'b')
    assert.equal(proxy.targets[0]?.state, 'down')
  })

  it('connects further clients to a target on trial while their connections stay open', async () => {
    const only = await peer(named('a'))
    const options = { probe: { type: 'off' as const }, outliers: { ejectMs: 50, maxEjectedShare: 1 } }
    const { port, proxy } = await proxyTo([only], { ...options, queue: { timeoutMs: 60_000 }, shutdownTimeoutMs: 1 })
    const [target] = proxy.targets
    only.server.close()
    const first = connect(port, '127.0.0.1')
      .setEncoding('utf8')
      .on('error', () => {})
    await until(() => target?.state === 'ejected')
    await peer(named('back'), Number(new URL(only.url).port))
    await until(() => target?.onTrial === true && target.inflight === 1)
    assert.equal(await talk(port, 'x'), 'back')
    assert.equal(first.readyState, 'open')
    first.destroy()
  })

  it('queues connections while there is no target, and ends them after the queue timeout', async () => {
    const only = await peer(named('a'))
    const { port, proxy } = await proxyTo([only], { queue: { timeoutMs: 60_000 } })
    only.server.close()
    await until(() => proxy.targets[0]?.state === 'down')
    const waiting = talk(port, 'x')
    await peer(named('back'), Number(new URL(only.url).port))
    assert.equal(await waiting, 'back')
    const never = await proxyTo([{ url: 'tcp://127.0.0.1:1' }], { queue: { timeoutMs: 50 } })
    assert.equal(await talk(never.port, 'x').catch(() => ''), '')
  })

  it('resets one side when the other is reset', async () => {
    const reset = await peer((socket) => socket.on('data', () => socket.resetAndDestroy()))
    const { port } = await proxyTo([reset])
    await assert.rejects(talk(port, 'x'), { code: 'ECONNRESET' })
    let ended = false
    const listening = await peer((socket) => socket.on('error', () => (ended = true)))
    const other = await proxyTo([listening])
    const client = connect(other.port, '127.0.0.1')
    client.write('x')
    await until(() => listening.sockets.size > 0 && other.proxy.targets[0]?.inflight === 1)
    client.resetAndDestroy()
    await until(() => ended && other.proxy.targets[0]?.inflight === 0)
  })

  it('closes connections without traffic', async () => {
    const silent = await peer(() => {})
    const { port, proxy } = await proxyTo([silent], { idleTimeoutMs: 50 })
    const client = connect(port, '127.0.0.1')
    client.on('error', () => {})
    await once(client, 'close')
    await until(() => proxy.targets[0]?.inflight === 0)
  })

  it('does not keep connections that have ended', async () => {
    class Mark {}
    const { port, proxy } = await proxyTo([await peer(named('a'))])
    proxy.server.on('connection', (client) => Object.assign(client, { mark: new Mark() }))
    for (let i = 0; i < 50; i++) assert.equal(await talk(port, 'x'), 'a')
    await until(() => liveObjects(Mark) <= 5, { what: 'the end of the connections' })
  })

  it('sends the client address by PROXY protocol', async () => {
    const echo = await peer((socket) => {
      let text = ''
      socket.on('data', (chunk) => {
        text += chunk
      })
      socket.on('end', () => socket.end(text))
    })
    const { port } = await proxyTo([echo], { proxyProtocol: true })
    assert.match(
      await talk(port, 'hello'),
      new RegExp(`^PROXY TCP4 127\\.0\\.0\\.1 127\\.0\\.0\\.1 \\d+ ${port}\r\nhello$`),
    )
  })

  for (const [listen, from, line] of [
    ['::1', '::1', /^PROXY TCP6 ::1 ::1 \d+ \d+\r\n$/],
    // A dual-stack listener sees ::ffff:127.0.0.1.
    ['::', '127.0.0.1', /^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\n$/],
  ] as const)
    it(`sends the address ${from} of a client of ${listen} in its own family`, async () => {
      const echo = await peer((socket) => socket.pipe(socket))
      const proxy = createTcpProxy({ targets: [echo.url], probe: quickProbe, proxyProtocol: true })
      after(() => proxy.close())
      await proxy.listen({ host: listen })
      const client = connect(proxy.address?.port ?? 0, from)
        .setEncoding('utf8')
        .end()
      const received = (await client.toArray()).join('')
      assert.match(received, line)
      assert.ok(received.includes(` ${proxy.address?.port}\r\n`), 'the port that the client connected to')
    })

  it('chooses by the address of the client, and counts a connection as served once it is made', async () => {
    const only = await peer(named('a'))
    const clients: string[] = []
    const policy: TcpProxyOptions['policy'] = {
      pick: (targets, { client }) => {
        clients.push(client)
        return targets[0] as never
      },
    }
    const proxy = createTcpProxy({ targets: [only.url], probe: quickProbe, policy })
    after(() => proxy.close())
    await proxy.listen({ host: '::' })
    assert.equal(await talk(proxy.address?.port ?? 0, 'x'), 'a')
    assert.deepEqual(clients, ['127.0.0.1'])
    assert.deepEqual([proxy.targets[0]?.served, proxy.targets[0]?.failed], [1, 0])
  })

  it('gives up a target that does not accept the connection within connectTimeoutMs, and uses another', async (t) => {
    const peers = await Promise.all(['a', 'b'].map((name) => peer(named(name))))
    const { port, proxy } = await proxyTo(peers, {
      // For the other one, too.
      connections: { connectTimeoutMs: 1000 },
      probe: { ...quickProbe, intervalMs: 3_600_000 },
    })
    const attempts = drop(t, peers[0])
    for (let i = 0; i < 2; i++) {
      const client = new net.Socket().connect(port, '127.0.0.1').setEncoding('utf8').end('x')
      assert.equal((await client.toArray()).join(''), 'b')
    }
    assert.deepEqual(
      attempts.map(({ destroyed }) => destroyed),
      [true],
    )
    assert.deepEqual([proxy.targets[0]?.state, proxy.targets[0]?.inflight], ['down', 0])
  })

  it('does not send a client that waits for a place to the target that has just failed', async (t) => {
    const peers = await Promise.all([1, 2].map(() => peer((socket) => socket.resume())))
    const { port, proxy } = await proxyTo(peers, {
      targets: peers.map(({ url }) => ({ url, maxConnections: 1 })),
      probe: { ...quickProbe, intervalMs: 3_600_000 },
      queue: { timeoutMs: 60_000 },
      shutdownTimeoutMs: 1,
    })
    const attempts = drop(t, peers[0])
    const clients = [1, 2, 3].map(() => new net.Socket().connect(port, '127.0.0.1').on('error', () => {}))
    t.after(() => {
      for (const client of clients) client.destroy()
    })
    const { waitingRoom } = proxy.balancer.context
    await until(() => attempts.length === 1 && waitingRoom.length === 1)
    attempts[0]?.destroy()
    await until(() => waitingRoom.length === 2)
    assert.deepEqual([attempts.length, proxy.targets[0]?.state], [1, 'down'])
  })

  it('accepts no connection before every target has been probed, and closes its balancer at the end', async (t) => {
    const proxy = await listensAfterProbes(createTcpProxy)
    const { mock } = t.mock.method(proxy.balancer, 'close')
    await proxy.close()
    assert.equal(mock.callCount(), 1)
  })

  it('waits for a target as long as queue.timeoutMs in all, from the start of an outage', async (t) => {
    const options = { queue: { timeoutMs: 60_000 }, shutdownTimeoutMs: 1 }
    const { port, proxy } = await proxyTo([await peer(named('a'))], options)
    const { rotation, waitingRoom } = proxy.balancer.context
    const waits = t.mock.method(waitingRoom, 'enter').mock
    const leftMs = (): number[] => waits.calls.map((call) => Number(call.arguments[0]) - 1e-6)
    t.mock.method(rotation, 'choose', () => undefined)
    connect(port, '127.0.0.1').on('error', () => undefined)
    await until(() => waits.callCount() === 1)
    waitingRoom.wake()
    const [first = 0, again = 0] = leftMs()
    assert.ok(again > 0 && again < first && first <= 60_000, `${leftMs()}`)
    Object.defineProperty(rotation, 'lostAt', { value: performance.now() - 59_000 })
    connect(port, '127.0.0.1').on('error', () => undefined)
    await until(() => waits.callCount() === 3)
    assert.ok((leftMs()[2] ?? 0) <= 1_000, `${leftMs()}`)
  })

  it('gives up what waits, and starts nothing new, for a client that is gone', async (t) => {
    const target = await peer(named('a'))
    const options = { queue: { timeoutMs: 3_600_000 }, shutdownTimeoutMs: 1 }
    const { port, proxy } = await proxyTo([target], { ...options, probe: { ...quickProbe, intervalMs: 3_600_000 } })
    const { rotation, waitingRoom } = proxy.balancer.context
    const attempts = drop(t, target)
    const open = (): Socket => new net.Socket().connect(port, '127.0.0.1').on('error', () => undefined)
    for (let i = 0; i < 2; i++) open()
    await until(() => attempts.length === 2)
    const { mock } = t.mock.method(rotation, 'choose', () => undefined)
    open()
    await until(() => waitingRoom.length === 1)
    await proxy.close()
    await until(() => waitingRoom.length === 0)
    mock.resetCalls()
    const closed = attempts.map((attempt) => once(attempt, 'close'))
    attempts[0]?.emit('connect')
    attempts[1]?.destroy()
    await Promise.all(closed)
    assert.equal(mock.callCount(), 0)
  })

  it('forwards HTTP, with HTTP probes', async () => {
    const upstreams = await startUpstreams(2)
    const { port, proxy } = await proxyTo(upstreams)
    if (upstreams[0]) upstreams[0].ready = false
    await until(() => proxy.targets[0]?.state === 'down')
    const { text } = await get(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } })
    assert.equal(JSON.parse(text).name, 'u1')
  })

  it('closes when its connections have ended, or at the deadline', async () => {
    const echo = await peer((socket) => socket.pipe(socket))
    const { port, proxy } = await proxyTo([echo])
    const client = connect(port, '127.0.0.1')
    client.write('one')
    await once(client, 'data')
    const closed = proxy.close()
    client.end('two')
    assert.equal(String(await once(client, 'data')), 'two')
    await closed
    const late = await proxyTo([echo], { shutdownTimeoutMs: 50 })
    const stuck = connect(late.port, '127.0.0.1')
    stuck.on('error', () => {})
    stuck.write('x')
    await once(stuck, 'data')
    await Promise.all([late.proxy.close(), once(stuck, 'close')])
  })

  it('rejects unknown options', () => {
    assert.throws(() => createTcpProxy({ targets: ['nonsense'] }), { code: 'FLEET_ERR_TARGET_INVALID' })
    assert.throws(() => createTcpProxy({ targets: [], wonders: 1 } as never), { code: 'FLEET_ERR_OPTION_UNKNOWN' })
    assert.throws(() => createTcpProxy({ targets: [], idleTimeoutMs: -1 }), { code: 'FLEET_ERR_OPTION_INVALID' })
  })
})
