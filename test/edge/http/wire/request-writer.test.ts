import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { describe, it } from 'node:test'
import { RequestWriter, type WireRequest } from '../../../../src/edge/http/wire/request-writer.ts'

const turn = (): Promise<void> => new Promise(setImmediate)

/** A writer to a socket that records what it gets. */
function recorder() {
  const calls: unknown[] = []
  const socket = {
    destroyed: false,
    writableNeedDrain: false,
    write: (data: string | Buffer, encoding?: string) => {
      calls.push(typeof data === 'string' ? [data, encoding] : `${data.toString('latin1')}`)
      return true
    },
    cork: () => calls.push('cork'),
    uncork: () => calls.push('uncork'),
  }
  const waits: boolean[] = []
  const writer = new RequestWriter(socket as unknown as Socket, (forServer) => waits.push(forServer))
  const write = (given: Partial<WireRequest>): Promise<void> | undefined =>
    writer.write({ method: 'GET', path: '/a', headers: 'host: x\r\n', body: null, rejectable: false, ...given })
  return { calls, socket, waits, writer, write }
}

const start = (method: string): string => `${method} /a HTTP/1.1\r\nconnection: keep-alive\r\nhost: x\r\n`

describe('a request without a body', () => {
  it('has a length of 0 if its method usually has a body', () => {
    for (const [method, line] of [
      ['GET', ''],
      ['DELETE', ''],
      ['POST', 'content-length: 0\r\n'],
      ['PUT', 'content-length: 0\r\n'],
      ['PATCH', 'content-length: 0\r\n'],
    ] as const)
      for (const body of [null, Buffer.alloc(0)]) {
        const { calls, waits, write } = recorder()
        assert.equal(write({ method, body }), undefined)
        assert.deepEqual(calls, [[`${start(method)}${line}\r\n`, 'latin1']])
        assert.deepEqual(waits, [true])
      }
  })

  it('may ask a draining server to reject it', () => {
    const { calls, write } = recorder()
    write({ rejectable: true })
    assert.deepEqual(calls, [[`${start('GET')}x-fleet-retry: 1\r\n\r\n`, 'latin1']])
  })

  it('keeps the length that its headers name, which is that of a field and not of a value', () => {
    const { calls, write } = recorder()
    write({ method: 'POST', headers: 'content-length: 0\r\n' })
    write({ method: 'POST', headers: 'x-content-length: 5\r\n' })
    write({ method: 'POST', headers: 'a: content-length: 5\r\n' })
    const lengths = calls.map((call) =>
      String(call)
        .match(/\ncontent-length: .*/g)
        ?.join(),
    )
    assert.deepEqual(lengths, ['\ncontent-length: 0', '\ncontent-length: 0', '\ncontent-length: 0'])
  })
})

describe('a request with a body that is known', () => {
  it('is one write up to 8 KiB, and corked above', () => {
    for (const [size, isOne] of [
      [1, true],
      [8192, true],
      [8193, false],
    ] as const) {
      const { calls, waits, write, writer } = recorder()
      const body = Buffer.alloc(size, '\xe9', 'latin1')
      const head = `${start('POST')}content-length: ${size}\r\n\r\n`
      write({ method: 'POST', body })
      const text = body.toString('latin1')
      assert.deepEqual(calls, isOne ? [[head + text, 'latin1']] : ['cork', [head, 'latin1'], text, 'uncork'])
      assert.deepEqual([waits, writer.writing], [[true], false])
    }
  })

  it('has a length whatever its method is', () => {
    const { calls, write } = recorder()
    write({ method: 'DELETE', body: Buffer.from('ab') })
    assert.deepEqual(calls, [[`${start('DELETE')}content-length: 2\r\n\r\nab`, 'latin1']])
  })
})

describe('a request with a stream', () => {
  async function* pieces(...texts: string[]): AsyncGenerator<Buffer> {
    for (const text of texts) yield Buffer.from(text)
  }

  it('is sent in chunks without a length', async () => {
    const { calls, waits, write, writer } = recorder()
    const done = write({ method: 'POST', body: pieces('a', 'x'.repeat(17)) })
    assert.deepEqual([writer.writing, waits], [true, [false]])
    await done
    assert.deepEqual(calls, [
      [`${start('POST')}transfer-encoding: chunked\r\n\r\n`, 'latin1'],
      'cork',
      ['1\r\n', 'latin1'],
      'a',
      'uncork',
      'cork',
      ['\r\n11\r\n', 'latin1'],
      'x'.repeat(17),
      'uncork',
      ['\r\n0\r\n\r\n', 'latin1'],
    ])
    assert.deepEqual([writer.writing, waits], [false, [false, true]])
  })

  it('is sent as it is with a length', async () => {
    const { calls, write } = recorder()
    await write({ method: 'PUT', headers: 'content-length: 3\r\n', body: pieces('a', 'bc') })
    assert.deepEqual(calls.slice(1), ['cork', 'a', 'uncork', 'cork', 'bc', 'uncork'])
    assert.doesNotMatch(String(calls[0]), /chunked/)
  })

  it('that is empty is one last chunk', async () => {
    const { calls, write } = recorder()
    await write({ method: 'PUT', body: pieces() })
    assert.deepEqual(calls.slice(1), [['0\r\n\r\n', 'latin1']])
  })

  it('waits for the server while the socket is full', async () => {
    const { calls, socket, waits, write, writer } = recorder()
    socket.writableNeedDrain = true
    const done = write({ method: 'PUT', headers: 'content-length: 2\r\n', body: pieces('a', 'b') })
    await turn()
    assert.deepEqual([calls.length, waits, writer.writing], [4, [false, true], true])
    writer.proceed()
    await turn()
    assert.deepEqual([calls.length, waits], [7, [false, true, false, true]])
    socket.writableNeedDrain = false
    writer.proceed()
    await done
    assert.deepEqual([waits.slice(4), writer.writing], [[false, true], false])
    // There is nothing to continue.
    writer.proceed()
  })

  it('ends with its connection', async () => {
    for (const count of [0, 1]) {
      const { calls, socket, waits, write } = recorder()
      socket.destroyed = true
      await write({ method: 'PUT', body: pieces(...new Array(count).fill('a')) })
      assert.deepEqual([calls.length, waits], [1, [false]])
    }
  })
})
