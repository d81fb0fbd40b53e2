import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { resetConnection } from '../../src/base/socket-bounds.ts'

/** The server's side of a connection. */
async function accepted(t: TestContext): Promise<{ client: Socket; socket: Socket }> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [socket] = (await once(server, 'connection')) as [Socket]
  t.after(() => {
    client.destroy()
    socket.destroy()
    server.close()
  })
  return { client, socket }
}

describe('resetConnection', () => {
  it('resets an open connection', async (t) => {
    const { client, socket } = await accepted(t)
    resetConnection(socket)
    const [error] = await once(client, 'error')
    assert.equal(error.code, 'ECONNRESET')
  })

  it('resets a connection with unsent data, even after its end', async (t) => {
    const { client, socket } = await accepted(t)
    client.pause()
    socket.end(Buffer.alloc(64 << 20))
    assert.ok(socket.writableLength > 0)
    resetConnection(socket)
    const [error] = await once(client.resume(), 'error')
    assert.equal(error.code, 'ECONNRESET')
  })

  it('closes a connection that is shutting down, whose descriptor a reset would leak', async (t) => {
    const { socket } = await accepted(t)
    const closed = once(socket, 'close')
    socket.end()
    resetConnection(socket)
    await closed
  })
})
