import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'
import { after, test } from 'node:test'
import { freePort } from '../helpers/free-port.ts'
import { startFront } from './front.ts'

/** Sends its name, then echoes: not HTTP. */
async function startEcho(name: string, at: number): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.write(`${name}\n`)
    socket.pipe(socket)
  })
  server.listen(at, '127.0.0.1')
  await once(server, 'listening')
  after(() => server.close())
  return server
}

// A reserved port: the kernel could give one of its own choice to another process once it is closed.
const ports = await Promise.all([freePort(), freePort(), freePort()])
const echoes = await Promise.all(ports.map((at, i) => startEcho('abc'[i] ?? '', at)))
const port = await freePort()
await startFront({
  FLEET_TARGETS: ports.map((at) => `127.0.0.1:${at}`).join(),
  FLEET_TCP: 'on',
  FLEET_TCP_PORT: port,
})

async function talk(text: string): Promise<{ name: string; received: string }> {
  const socket = connect(port, '127.0.0.1')
  socket.write(text)
  let received = ''
  for await (const piece of socket) {
    received += piece
    // Breaking out of the loop closes the connection.
    if (received.endsWith(text)) break
  }
  const [name = '', rest = ''] = received.split('\n')
  return { name, received: rest }
}

test('forwards bytes unchanged, to all instances', async () => {
  const names = new Set<string>()
  for (let turn = 0; turn < 30; turn++) {
    const { name, received } = await talk(`\u0000 ${turn} ü`)
    assert.equal(received, `\u0000 ${turn} ü`)
    names.add(name)
  }
  assert.deepEqual([...names].sort(), ['a', 'b', 'c'])
})

test('forwards a connection to another instance if the first refuses it', async () => {
  echoes[0]?.close()
  for (let turn = 0; turn < 12; turn++) assert.match((await talk('x')).name, /^[bc]$/)
})
