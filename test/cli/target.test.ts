import assert from 'node:assert/strict'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTcpServer, type Socket } from 'node:net'
import { describe, it } from 'node:test'
import { createServer as createTlsServer } from 'node:tls'
import { integerOption, portOption } from '../../src/cli/args.ts'
import { exchange } from '../../src/cli/exchange.ts'
import { headerText, member, repeat, Target } from '../../src/cli/target.ts'
import { waitUntil } from '../../src/cli/wait-until.ts'
import { pem, startListening } from '../edge/listening.ts'
import { mockTimers } from '../helpers/clock.ts'
import { until } from '../helpers/until.ts'

async function serve(handler: RequestListener): Promise<{ url: string; connections: () => number }> {
  let connections = 0
  const server = createServer(handler).on('connection', () => void connections++)
  return { url: `http://127.0.0.1:${await startListening(server)}`, connections: () => connections }
}

describe('a target', () => {
  it('has the origin and the path of its URL, and rejects other protocols', async () => {
    const asked: string[] = []
    const { url } = await serve(({ url: path = '' }, response) => {
      asked.push(path)
      response.end()
    })
    const target = new Target(`${url}/shop//?x=1#y`)
    assert.equal(target.url, `${url}/shop`)
    await target.request('/live')
    assert.deepEqual(asked, ['/shop/live'])
    assert.equal(new Target('https://a.example/').url, 'https://a.example')
    for (const wrong of ['nonsense', 'ftp://a', 'a:3000', '']) {
      assert.throws(() => new Target(wrong), { code: 'FLEET_ERR_USAGE', message: /is not a URL/ })
    }
  })

  it('sends a new connection for each request, and one for those of a connection', async () => {
    const { url, connections } = await serve((_request, response) => response.end())
    const target = new Target(url)
    for (let i = 0; i < 3; i++) await target.request('/')
    assert.equal(connections(), 3)
    const connection = target.connect()
    for (let i = 0; i < 3; i++) await connection.request('/')
    await connection.close()
    assert.equal(connections(), 4)
    assert.equal((await connection.request('/')).error, 'UND_ERR_DESTROYED', 'it was closed')
    let closed = 0
    const open = target.connect.bind(target)
    target.connect = () => {
      const { request, close } = open()
      return { request, close: () => close().then(() => void closed++) }
    }
    await target.request('/')
    assert.equal(closed, 1)
  })

  it('sends the method, the headers and the body as JSON', async () => {
    const seen: unknown[] = []
    const { url } = await serve(async (request, response) => {
      const { method, headers } = request
      const body = Buffer.concat(await request.toArray()).toString()
      seen.push([method, headers.accept, headers['content-type'], headers['x-a'], body])
      response.end()
    })
    const target = new Target(url)
    await target.request('/')
    await target.request('/', { method: 'POST', headers: { 'x-a': 'b', accept: 'text/html' }, body: { a: 1 } })
    assert.deepEqual(seen, [
      ['GET', '*/*', undefined, undefined, ''],
      ['POST', 'text/html', 'application/json', 'b', '{"a":1}'],
    ])
  })

  it('returns status, JSON, cookies and the instance, from the header or else the body', async () => {
    const { url } = await serve(({ url: path }, response) => {
      if (path === '/header') response.setHeader('X-Instance-Id', 'from-header')
      response.setHeader('Set-Cookie', ['a=1; Path=/; HttpOnly', 'b=2'])
      response.statusCode = 201
      response.end(path === '/text' ? 'no JSON' : '{"instanceId":"from-body"}')
    })
    const target = new Target(url)
    const { status, instanceId, cookies, json, text, error, ms } = await target.request('/header')
    assert.deepEqual([status, instanceId, cookies, error], [201, 'from-header', ['a=1', 'b=2'], undefined])
    assert.deepEqual([json, text], [{ instanceId: 'from-body' }, '{"instanceId":"from-body"}'])
    assert.ok(ms > 0)
    assert.equal((await target.request('/')).instanceId, 'from-body')
    const plain = await target.request('/text')
    assert.deepEqual([plain.json, plain.text, plain.instanceId], [undefined, 'no JSON', undefined])
  })

  it('counts a transport error, a late response and an endless one as a failure', async () => {
    const { url } = await serve(({ url: path, socket }, response) => {
      if (path === '/reset') socket.destroy()
      else if (path === '/large') response.end('x'.repeat(1_048_577))
      else if (path === '/fits') response.end('x'.repeat(1_048_576))
      else if (path === '/stalled') response.write('x')
      else if (path === '/trickle') {
        let left = 100
        const trickle = setInterval(() => (--left > 0 ? response.write('x') : response.end()), 20)
        response.on('close', () => clearInterval(trickle))
      }
    })
    const target = new Target(url, { timeoutMs: 200 })
    const patient = new Target(url)
    const fails = async (path: string, error: RegExp, from = target): Promise<void> => {
      const response = await from.request(path)
      assert.match(response.error ?? '', error, path)
      assert.deepEqual([response.status, response.headers, response.text, response.cookies], [0, {}, '', []])
    }
    await fails('/reset', /UND_ERR_SOCKET|ECONNRESET/, patient)
    for (const path of ['/silent', '/stalled', '/trickle'])
      await fails(path, /^(UND_ERR_(HEADERS|BODY)_TIMEOUT|TimeoutError)$/)
    assert.equal((await patient.request('/fits')).text.length, 1_048_576)
    assert.equal((await patient.request('/large')).error, 'UND_ERR_RES_EXCEEDED_MAX_SIZE')
    assert.equal((await new Target('http://127.0.0.1:1').request('/')).error, 'ECONNREFUSED')
  })
})

it('repeat runs each task once, as many at a time as allowed, and keeps their order', async () => {
  let [running, most] = [0, 0]
  const results = await repeat(10, 3, async (i) => {
    most = Math.max(most, ++running)
    for (let turns = 0; turns < 10 - i; turns++) await new Promise(setImmediate)
    running--
    return i * 2
  })
  assert.deepEqual(results, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18])
  assert.equal(most, 3)
  assert.deepEqual(await repeat(2, 9, async (i) => i), [0, 1])
  assert.deepEqual(await repeat(0, 9, async (i) => i), [])
})

it('member reads own properties of objects only', () => {
  const values = [{ a: 1 }, { b: 1 }, Object.create({ a: 1 }), null, undefined, 3, 'a', ['x']]
  assert.deepEqual(
    values.map((value) => member(value, 'a')),
    [1, ...Array(7).fill(undefined)],
  )
  assert.equal(member({}, 'constructor'), undefined)
  assert.deepEqual([headerText('a'), headerText(['b', 'c']), headerText(undefined)], ['a', 'b', undefined])
})

describe('waitUntil', () => {
  it('polls at least once, and until the time is over', async () => {
    assert.deepEqual([await waitUntil(() => true, 0, 1), await waitUntil(async () => false, -1, 1)], [true, false])
    let tries = 0
    assert.equal(await waitUntil(() => ++tries === 3, 60_000, 1), true)
    assert.equal(tries, 3)
  })

  it('pauses between polls', async (t) => {
    mockTimers(t)
    let tries = 0
    const held = waitUntil(() => ++tries === 2, 60_000, 100)
    await new Promise(setImmediate)
    t.mock.timers.tick(99)
    await new Promise(setImmediate)
    assert.equal(tries, 1)
    t.mock.timers.tick(1)
    assert.equal(await held, true)
  })

  it('ends with the first poll after the time', async (t) => {
    let [now, tries] = [0, 0]
    t.mock.method(performance, 'now', () => now)
    const poll = (): boolean => {
      tries++
      now += 10
      return false
    }
    assert.equal(await waitUntil(poll, 50, 0), false)
    assert.equal(tries, 6)
  })
})

describe('integerOption', () => {
  it('accepts whole numbers within the range', () => {
    assert.deepEqual(
      ['3', '5', '007'].map((text) => integerOption('n', text, 3, 7)),
      [3, 5, 7],
    )
    for (const text of ['2', '8', '', '-3', '3.0', '1e1', ' 3', '3x', '0x3', '1'.repeat(16)]) {
      const message = `invalid command line: --n must be a whole number from 3 to 7, not ${JSON.stringify(text)}`
      assert.throws(() => integerOption('n', text, 3, 7), { code: 'FLEET_ERR_USAGE', message })
    }
    assert.equal(integerOption('n', '9'.repeat(15), 0, Number.MAX_SAFE_INTEGER), 999_999_999_999_999)
  })

  it('accepts ports from 0, a free one, to 65535', () => {
    assert.deepEqual([portOption('0'), portOption('65535')], [0, 65_535])
    assert.throws(() => portOption('65536'), { code: 'FLEET_ERR_USAGE' })
  })
})

describe('exchange', () => {
  const listen = (accept: (socket: Socket) => void): Promise<number> =>
    startListening(createTcpServer((socket) => accept(socket.on('error', () => {}))))
  const host = '127.0.0.1'

  it('finds an open port, and one that is closed or invalid', async () => {
    const port = await listen(() => {})
    assert.deepEqual(await exchange({ host, port, timeoutMs: 60_000 }), { text: '', error: undefined })
    assert.equal((await exchange({ host, port: 1, timeoutMs: 60_000 })).error, 'ECONNREFUSED')
    for (const wrong of [0, -1, 65_536, Number.NaN])
      assert.deepEqual(await exchange({ host, port: wrong, timeoutMs: 60_000 }), { text: '', error: 'not a TCP port' })
  })

  it('waits for the response that matches, in pieces', async () => {
    const port = await listen((socket) =>
      socket.on('data', (data) => {
        socket.write(`got ${data}`)
        setImmediate(() => socket.write(' +PONG'))
      }),
    )
    assert.deepEqual(await exchange({ host, port, timeoutMs: 60_000 }, 'PING', /\+PONG/), {
      text: 'got PING +PONG',
      error: undefined,
    })
  })

  it('fails without the response: too late, closed, or too long', async () => {
    const silent = await listen(() => {})
    assert.equal((await exchange({ host, port: silent, timeoutMs: 100 }, 'x', /y/)).error, 'no response in 0.1 s')
    const closing = await listen((socket) => socket.end('z'))
    assert.deepEqual(await exchange({ host, port: closing, timeoutMs: 60_000 }, 'x', /y/), {
      text: 'z',
      error: 'the connection was closed',
    })
    const flooding = await listen((socket) => {
      const flood = setInterval(() => socket.write('z'.repeat(100)), 1)
      socket.on('close', () => clearInterval(flood))
    })
    const { text, error } = await exchange({ host, port: flooding, timeoutMs: 60_000 }, 'x', /y/)
    assert.equal(error, 'not the response of such a server')
    assert.ok(text.length > 4_096 && text.length <= 4_096 + 1_024, String(text.length))
  })

  it('fails for a TLS server with a certificate that nothing trusts', async () => {
    const port = await startListening(createTlsServer(pem, (socket) => socket.on('error', () => {}).end('y')))
    for (const sent of ['x', undefined]) {
      const { error } = await exchange({ host: 'localhost', port, tls: true, timeoutMs: 60_000 }, sent, /y/)
      assert.match(error ?? '', /SELF_SIGNED_CERT/, sent)
    }
  })

  it('connects to the given host only', async () => {
    const plain = await listen(() => {})
    const secure = await startListening(createTlsServer(pem, () => {}))
    for (const [port, tls] of [
      [plain, false],
      [secure, true],
    ] as const)
      assert.match((await exchange({ host: '::1', port, tls, timeoutMs: 60_000 })).error ?? '', /^E[A-Z]+$/)
  })

  it('leaves neither a connection nor a timer behind', async (t) => {
    let isClosed = false
    const port = await listen((socket) => socket.resume().on('close', () => (isClosed = true)))
    const started = t.mock.method(globalThis, 'setTimeout')
    const cleared = t.mock.method(globalThis, 'clearTimeout')
    await exchange({ host, port, timeoutMs: 60_001 })
    const limit = started.mock.calls.find(({ arguments: [, ms] }) => ms === 60_001)?.result
    assert.ok(limit && cleared.mock.calls.some(({ arguments: [timer] }) => timer === limit))
    await until(() => isClosed, { what: 'the end of the connection' })
  })

  it('asks a TLS server by its name, not by its address, and fails without TLS', async (t) => {
    const warnings: Error[] = []
    const warn = (warning: Error): void => void warnings.push(warning)
    process.on('warning', warn)
    t.after(() => process.off('warning', warn))
    const hellos: Buffer[] = []
    const port = await listen((socket) => socket.once('data', (hello: Buffer) => hellos.push(hello) && socket.end()))
    for (const name of [host, 'localhost']) {
      assert.notEqual((await exchange({ host: name, port, tls: true, timeoutMs: 60_000 }, 'x', /x/)).error, undefined)
    }
    assert.deepEqual(
      hellos.map((hello) => [hello.includes(host), hello.includes('localhost')]),
      [
        [false, false],
        [false, true],
      ],
    )
    assert.deepEqual(warnings, [])
  })
})
