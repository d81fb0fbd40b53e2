import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { resolveOptions } from '../../src/base/options.ts'
import { type ProbeOptions, Prober, type ProbeTarget, probeOptions, type Verdict } from '../../src/edge/probe.ts'
import { type Clock, clock } from '../helpers/clock.ts'
import { until } from '../helpers/until.ts'

type Respond = (response: ServerResponse, request: IncomingMessage) => void

interface Probed {
  readonly verdicts: Verdict[]
  readonly prober: Prober<ProbeTarget>
  readonly target: ProbeTarget
  readonly requests: IncomingMessage[]
  readonly time: Clock
  respond: Respond
  /** Lets the next probe run, and returns once it has ended. */
  next(): Promise<void>
  /** Waits until the next probe is due, and returns the time until then. */
  pause(): Promise<number>
}

/** A server that is probed in the time of the test, every second. */
async function probed(t: TestContext, respond: Respond, options: Partial<ProbeOptions> = {}): Promise<Probed> {
  const requests: IncomingMessage[] = []
  const sockets = new Set<Socket>()
  const server = createServer((request, response) => {
    requests.push(request)
    found.respond(response, request)
  })
  server.on('connection', (socket) => sockets.add(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const time = clock(t)
  t.mock.method(Math, 'random', () => 0.5)
  const verdicts: Verdict[] = []
  const target = { url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`) }
  const prober = new Prober<ProbeTarget>({ ...resolveOptions('probe', probeOptions), ...options }, (_, verdict) => {
    verdicts.push(verdict)
  })
  t.after(() => {
    prober.close()
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  // Between two probes, the next one is the only timer.
  const pause = async (): Promise<number> => {
    await until(() => time.timers() === 1 && requests.every(({ socket }) => socket.destroyed))
    return time.delays()[0] as number
  }
  const next = async (): Promise<void> => {
    const count = requests.length
    time.tick(await pause())
    await until(() => requests.length > count)
    await pause()
  }
  const found = { verdicts, prober, target, requests, time, respond, pause, next }
  prober.watch(target)
  return found
}

const status =
  (code: number, headers: Record<string, string> = {}): Respond =>
  (response) =>
    void response.writeHead(code, headers).end()

describe('a probe', () => {
  it('is a request with the path, the host and its own user agent, over a connection of its own', async (t) => {
    const { requests, target, next, pause } = await probed(t, status(200), { path: '/up' })
    await pause()
    await next()
    const [first, second] = requests
    assert.deepEqual([first?.method, first?.url, first?.headers.host], ['GET', '/up', target.url.host])
    assert.equal(first?.headers['user-agent'], 'fleet-probe')
    assert.notEqual(first?.socket, second?.socket)
  })

  it('passes with a final 2xx, unless that says the target drains', async (t) => {
    const server = await probed(t, status(200))
    await server.pause()
    server.prober.unwatch(server.target)
    for (const [code, verdict] of [
      [200, 'pass'],
      [299, 'pass'],
      [300, 'fail'],
      [404, 'fail'],
      [503, 'fail'],
    ] as const) {
      server.respond = status(code)
      server.prober.watch(server.target)
      await server.pause()
      assert.equal(server.verdicts.at(-1), verdict, `${code}`)
      server.prober.unwatch(server.target)
    }
    server.respond = status(503, { 'x-fleet-draining': '1' })
    server.prober.watch(server.target)
    await server.pause()
    assert.equal(server.verdicts.at(-1), 'draining')
    server.prober.unwatch(server.target)
    server.respond = (response) => {
      response.writeProcessing()
      response.writeHead(204).end()
    }
    server.prober.watch(server.target)
    await server.pause()
    assert.equal(server.verdicts.at(-1), 'pass')
  })

  it('is repeated after intervalMs, and after a quarter of it while the verdict changes', async (t) => {
    const server = await probed(t, status(200), { intervalMs: 1000, rise: 3, fall: 2 })
    assert.equal(await server.pause(), 1000)
    await server.next()
    assert.equal(await server.pause(), 1000)
    server.respond = status(500)
    await server.next()
    assert.deepEqual([await server.pause(), server.verdicts], [250, ['pass']])
    await server.next()
    assert.deepEqual([await server.pause(), server.verdicts], [1000, ['pass', 'fail']])
    server.respond = status(200)
    for (const left of [2, 1]) {
      await server.next()
      assert.deepEqual([await server.pause(), server.verdicts.length], [250, 2], `${left} left`)
    }
    await server.next()
    assert.deepEqual([await server.pause(), server.verdicts], [1000, ['pass', 'fail', 'pass']])
  })

  it('counts results in a row only', async (t) => {
    const server = await probed(t, status(200), { fall: 2 })
    await server.pause()
    for (const code of [500, 200, 500, 200, 500]) {
      server.respond = status(code)
      await server.next()
    }
    assert.deepEqual(server.verdicts, ['pass'])
    await server.next()
    assert.deepEqual(server.verdicts, ['pass', 'fail'])
  })

  it('starts up to a tenth earlier or later, so that balancers do not probe in step', async (t) => {
    const server = await probed(t, status(200))
    await server.pause()
    for (const [random, ms] of [
      [0, 900],
      [1, 1100],
    ] as const) {
      t.mock.method(Math, 'random', () => random)
      await server.next()
      assert.equal(Math.round(await server.pause()), ms)
    }
  })

  it('starts anew with `rise` passes after doubt, at the short interval', async (t) => {
    const server = await probed(t, status(200), { rise: 2 })
    await server.pause()
    server.prober.doubt(server.target)
    assert.deepEqual([await server.pause(), server.time.timers()], [250, 1])
    await server.next()
    assert.deepEqual([server.verdicts, await server.pause()], [['pass'], 250])
    await server.next()
    assert.deepEqual([server.verdicts, await server.pause()], [['pass', 'pass'], 1000])
    server.prober.doubt({ url: new URL('http://other') })
    server.prober.unwatch({ url: new URL('http://other') })
  })

  it('that began before a doubt does not count', async (t) => {
    const server = await probed(t, status(200), { rise: 2 })
    server.time.tick(await server.pause())
    let respond = (): void => undefined
    server.respond = (response) => {
      respond = () => void response.end()
    }
    await until(() => server.requests.length === 2)
    server.prober.doubt(server.target)
    respond()
    server.respond = status(200)
    await server.next()
    assert.deepEqual([server.verdicts, await server.pause()], [['pass'], 250])
    await server.next()
    assert.deepEqual(server.verdicts, ['pass', 'pass'])
  })

  it('ends after timeoutMs, and its connection too', async (t) => {
    const server = await probed(t, () => {}, { timeoutMs: 700 })
    await until(() => server.requests.length === 1)
    server.time.tick(699)
    assert.equal(server.requests[0]?.socket.destroyed, false)
    server.time.tick(1)
    await server.pause()
    assert.deepEqual(server.verdicts, ['fail'])
  })

  it('reads at most 64 KiB of a response', async (t) => {
    const server = await probed(t, (response) => {
      response.writeHead(200)
      const more = (): void => {
        if (!response.destroyed) response.write('x'.repeat(16_384), () => setImmediate(more))
      }
      more()
    })
    await server.pause()
    assert.deepEqual([server.verdicts, server.requests[0]?.socket.destroyed], [['pass'], true])
  })

  it('ends with its target', async (t) => {
    const server = await probed(t, () => {})
    await until(() => server.requests.length === 1)
    server.prober.watch(server.target)
    server.prober.unwatch(server.target)
    await until(() => server.requests[0]?.socket.destroyed === true)
    server.time.tick(100_000)
    await new Promise(setImmediate)
    assert.deepEqual([server.verdicts, server.requests.length], [[], 1])
  })
})

describe('a probe of TCP', () => {
  it('passes once it is connected, and fails if it is refused or late', async (t) => {
    const server = createTcpServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const time = clock(t)
    const verdicts: Verdict[] = []
    const options = { ...resolveOptions('probe', probeOptions), type: 'tcp', timeoutMs: 700 } as const
    const prober = new Prober<ProbeTarget>(options, (_, verdict) => verdicts.push(verdict))
    t.after(() => prober.close())
    const target = { url: new URL(`tcp://127.0.0.1:${port}`) }
    const connected = once(server, 'connection')
    prober.watch(target)
    const [socket] = (await connected) as [Socket]
    await until(() => verdicts.length === 1)
    socket.resume()
    await until(() => socket.destroyed)
    prober.unwatch(target)
    await new Promise((resolve) => server.close(resolve))
    prober.watch(target)
    await until(() => verdicts.length === 2)
    assert.deepEqual(verdicts, ['pass', 'fail'])
    prober.unwatch(target)
    assert.equal(time.timers(), 0)
  })

  it('has these defaults', () => {
    assert.deepEqual(resolveOptions('probe', probeOptions), {
      ...{ type: 'http', path: '/ready', intervalMs: 1000, timeoutMs: 1000, rise: 2, fall: 2 },
    })
  })
})
