import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, it, type TestContext } from 'node:test'
import { constantResponse } from '../../../src/base/internals/constant-response.ts'
import { isTextUsable, StaticHeaderText, textOf } from '../../../src/base/internals/header-text.ts'
import { canWritePlainHead, persistenceLines, writePlainHead } from '../../../src/base/internals/plain-head.ts'
import { shortcuts } from '../../../src/base/internals/shortcuts.ts'
import { head, raw } from '../../edge/raw.ts'

const defaults = { ...shortcuts }
afterEach(() => void Object.assign(shortcuts, defaults))

/** The response of a server as it is on the wire. */
async function wire(t: TestContext, respond: (response: ServerResponse) => void, method = 'GET'): Promise<string> {
  const server = createServer((_request, response) => {
    response.sendDate = false
    respond(response)
  })
  t.after(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return raw(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, head(`${method} /`))
}

describe('a constant response', () => {
  const expected = 'HTTP/1.1 503 Service Unavailable\r\nx-a: 1\r\ncontent-length: 4\r\nConnection: close\r\n\r\nfull'

  for (const usable of [true, false])
    it(`is the same ${usable ? 'as one text' : 'in the public way'}`, async (t) => {
      shortcuts.constantResponse = usable
      const respond = constantResponse(503, { 'x-a': '1' }, 'full')
      const text = await wire(t, respond)
      assert.equal(text.toLowerCase(), expected.toLowerCase())
      // A second request gets the same.
      assert.equal(await wire(t, respond), text)
      const withOwn = await wire(t, (response) => {
        response.setHeader('x-own', '2')
        respond(response)
      })
      assert.match(withOwn, /x-own: 2\r\n/)
      assert.match(withOwn, /x-a: 1\r\n/)
      assert.match(withOwn, /content-length: 4\r\n/)
      assert.doesNotMatch(withOwn, /chunked/)
      const toHead = await wire(t, respond, 'HEAD')
      assert.equal(toHead.toLowerCase(), expected.slice(0, -4).toLowerCase())
    })

  it('has the whole body if it is not ASCII', async (t) => {
    const response = Buffer.from(await wire(t, constantResponse(200, {}, 'füll')), 'latin1').toString()
    assert.match(response, /content-length: 5\r\n.*\r\n\r\nfüll$/s)
  })

  it('writes head and body at once, unless `end` was replaced', () => {
    const respond = constantResponse(200, { 'x-a': '1' }, 'ok')
    const ended = (own?: (body?: string) => void): unknown[] => {
      const response = new ServerResponse({ method: 'GET', httpVersionMajor: 1 } as IncomingMessage)
      const bodies: unknown[] = []
      if (own) response.end = ((body?: string) => bodies.push(body)) as never
      respond(response)
      return [bodies, String((response as unknown as { _header: string })._header).endsWith('\r\n\r\nok')]
    }
    assert.deepEqual(ended(), [[], true])
    assert.deepEqual(
      ended(() => undefined),
      [['ok'], false],
    )
    shortcuts.constantResponse = false
    const plain = constantResponse(200, {}, 'ok')
    const response = new ServerResponse({ method: 'GET', httpVersionMajor: 1 } as IncomingMessage)
    plain(response)
    assert.ok(!Object.hasOwn(response, '_storeHeader'))
  })

  it('has no text for HTTP/2', () => {
    const calls: unknown[] = []
    const response = {
      writeHead: (...given: unknown[]) => calls.push(given),
      end: (...given: unknown[]) => calls.push(given),
    }
    constantResponse(503, { 'x-a': '1' }, 'full')(response as unknown as ServerResponse)
    assert.deepEqual(calls, [[503, { 'x-a': '1', 'content-length': '4' }], ['full']])
    assert.deepEqual(Object.keys(response), ['writeHead', 'end'])
  })
})

describe('static headers as text', () => {
  const headers = (): StaticHeaderText => {
    const text = new StaticHeaderText()
    text.set({ 'x-a': '1', 'x-b': '2' })
    return text
  }
  const lines = (response: string): string[] => response.split('\r\n').filter((line) => /^x-/i.test(line))

  it('come before the own headers of a response, which win', async (t) => {
    const text = headers()
    const respond = (own: Record<string, string>) => (response: ServerResponse) => {
      assert.equal(text.attach(response), true)
      response.writeHead(200, own)
      response.end()
    }
    assert.deepEqual(lines(await wire(t, respond({ 'x-own': '3' }))), ['x-a: 1', 'x-b: 2', 'x-own: 3'])
    assert.deepEqual(lines(await wire(t, respond({ 'X-B': '4', 'x-c': '5' }))), ['x-a: 1', 'X-B: 4', 'x-c: 5'])
    assert.deepEqual(lines(await wire(t, respond({}))), ['x-a: 1', 'x-b: 2'])
    text.set({ 'x-new': '6' })
    assert.deepEqual(lines(await wire(t, respond({ 'x-a': '7' }))), ['x-new: 6', 'x-a: 7'])
  })

  it('are not added to a list of headers, which may have them', async (t) => {
    const text = headers()
    const response = await wire(t, (given) => {
      text.attach(given)
      given.writeHead(200, ['x-own', '3'])
      given.end()
    })
    assert.deepEqual(lines(response), ['x-own: 3'])
  })

  it('can be taken away again, from responses that have these', async (t) => {
    const [text, other] = [headers(), headers()]
    const response = await wire(t, (given) => {
      assert.equal(text.isAttached(given), false)
      text.attach(given)
      assert.deepEqual([text.isAttached(given), other.isAttached(given)], [true, false])
      other.detach(given)
      assert.equal(text.isAttached(given), true)
      text.detach(given)
      assert.equal(text.isAttached(given), false)
      given.end()
    })
    assert.deepEqual(lines(response), [])
  })

  it('are for responses of Node only, and if the shortcut is on', () => {
    const create = (): ServerResponse => new ServerResponse({ method: 'GET' } as IncomingMessage)
    class Recorder extends ServerResponse {}
    assert.equal(headers().attach(create()), true)
    assert.equal(headers().attach(new Recorder({ method: 'GET' } as IncomingMessage)), false)
    assert.equal(headers().attach({}), false)
    shortcuts.headerText = false
    assert.equal(headers().attach(create()), false)
  })

  it('end each line', () => {
    assert.equal(textOf([]), '')
    assert.equal(
      textOf([
        ['a', '1'],
        ['b', '2'],
      ]),
      'a: 1\r\nb: 2\r\n',
    )
    assert.equal(isTextUsable(), true)
  })
})

describe('a response head that is forwarded as text', () => {
  const given = {
    status: 200,
    message: 'Fine',
    framing: 2 as number | 'chunked' | 'close',
    lines: () => 'x-a: 1\r\ncontent-length: 2\r\n',
    has: (name: string): boolean => name === 'date',
  }
  const write =
    (changed: Partial<typeof given>, persistence?: string, body = 'ok') =>
    (response: ServerResponse): void => {
      writePlainHead(response, { ...given, ...changed }, persistence)
      response.end(body)
    }

  it('is usable with this version of Node, and if the shortcut is on', () => {
    assert.equal(canWritePlainHead(), true)
    shortcuts.plainHead = false
    assert.equal(canWritePlainHead(), false)
  })

  it('has the lines, and closes the connection or keeps it', async (t) => {
    const closing = 'HTTP/1.1 200 Fine\r\nx-a: 1\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok'
    assert.equal(await wire(t, write({})), closing)
    const kept = await wire(t, (response) => {
      const { socket } = response
      response.on('finish', () => socket?.end())
      write({}, 'connection: keep-alive\r\n')(response)
    })
    assert.equal(kept, closing.replace('close', 'keep-alive'))
  })

  it('says the text of its status if the upstream says none', async (t) => {
    assert.match(await wire(t, write({ status: 404, message: '' })), /^HTTP\/1\.1 404 Not Found\r\n/)
    assert.match(await wire(t, write({ status: 599, message: '' })), /^HTTP\/1\.1 599 unknown\r\n/)
  })

  it('has a date of its own if the upstream sends none', async (t) => {
    const dated = await wire(t, write({ has: () => false }))
    assert.match(dated, /\r\ndate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n/)
    assert.doesNotMatch(await wire(t, write({})), /date/)
  })

  it('has chunks without a length, unless it has no body', async (t) => {
    for (const framing of ['chunked', 'close'] as const) {
      const chunked = await wire(t, write({ framing, lines: () => '' }))
      assert.equal(
        chunked,
        'HTTP/1.1 200 Fine\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n',
      )
      const toHead = await wire(t, write({ framing, lines: () => '' }), 'HEAD')
      assert.equal(toHead, 'HTTP/1.1 200 Fine\r\nconnection: close\r\n\r\n')
    }
    for (const status of [204, 304]) {
      const none = await wire(t, write({ status, framing: 'close', lines: () => '' }))
      assert.equal(none, `HTTP/1.1 ${status} Fine\r\nconnection: close\r\n\r\n`)
    }
    for (const status of [205, 203, 303, 305])
      assert.match(await wire(t, write({ status, framing: 'close', lines: () => '' })), /chunked/)
  })

  it('is not sent before the body, and shows its status', () => {
    const response = new ServerResponse({ method: 'GET', httpVersionMajor: 1 } as IncomingMessage)
    writePlainHead(response, { ...given, status: 201 }, undefined)
    assert.deepEqual([response.statusCode, response.headersSent], [201, true])
    const { _headerSent: sent, _last: last } = response as unknown as { _headerSent: boolean; _last: boolean }
    assert.deepEqual([sent, last], [false, true])
  })

  it('tells how long a connection is kept, in seconds', () => {
    assert.equal(persistenceLines(5000), 'connection: keep-alive\r\nkeep-alive: timeout=5\r\n')
    assert.equal(persistenceLines(5999), 'connection: keep-alive\r\nkeep-alive: timeout=5\r\n')
    assert.equal(persistenceLines(0), 'connection: keep-alive\r\n')
  })
})
