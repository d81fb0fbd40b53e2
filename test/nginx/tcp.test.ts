import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'
import { after, test } from 'node:test'
import { freePort } from '../helpers/free-port.ts'
import { startFront } from './front.ts'

/** Says its name, then repeats what it hears: no HTTP at all. */
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

// Of the kernel's choice a port would be somebody else's as soon as it is closed.
const ports = await Promise.all([freePort(), freePort(), freePort()])
const echoes = await Promise.all(ports.map((at, i) => startEcho('abc'[i] ?? '', at)))
const port = await freePort()
await startFront({
  FLEET_TARGETS: ports.map((at) => `127.0.0.1:${at}`).join(),
  FLEET_TCP: 'on',
  FLEET_TCP_PORT: port,
})

async function talk(text: string): Promise<{ name: string; heard: string }> {
  const socket = connect(port, '127.0.0.1')
  socket.write(text)
  let heard = ''
  for await (const piece of socket) {
    heard += piece
    // Leaving the loop closes the connection.
    if (heard.endsWith(text)) break
  }
  const [name = '', rest = ''] = heard.split('\n')
  return { name, heard: rest }
}

test('bytes go through as they are, to all', async () => {
  const names = new Set<string>()
  for (let turn = 0; turn < 30; turn++) {
    const { name, heard } = await talk(`\u0000 ${turn} ü`)
    assert.equal(heard, `\u0000 ${turn} ü`)
    names.add(name)
  }
  assert.deepEqual([...names].sort(), ['a', 'b', 'c'])
})

test('a connection that one refuses goes to another', async () => {
  echoes[0]?.close()
  for (let turn = 0; turn < 12; turn++) assert.match((await talk('x')).name, /^[bc]$/)
})
