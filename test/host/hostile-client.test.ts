import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { askReload, serveControl } from '../../src/host/control.ts'
import '../helpers/cleanup.ts'
import { play } from '../helpers/hostile/client.ts'
import { until } from '../helpers/until.ts'
import { controlSocket } from './hostile-scripts.ts'

test('disconnects a hostile client of the control socket, serves others, and reloads nothing for it', async (t) => {
  const path = join(temporaryFolder('control'), 'socket')
  let reloads = 0
  const server = await serveControl(path, async () => void reloads++)
  t.after(() => server.close())
  await Promise.all(Object.values(controlSocket).map((script) => play({ path }, script)))
  await askReload(path)
  assert.equal(reloads, 1)
  await until(() => new Promise((done) => server.getConnections((_, open) => done(open === 0))))
})

test('closes connections to the control socket above the limit', async (t) => {
  const path = join(temporaryFolder('control'), 'socket')
  const server = await serveControl(path, async () => {})
  let dropped = 0
  server.on('drop', () => dropped++)
  const sockets = Array.from({ length: 20 }, () => connect(path).on('error', () => {}))
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  await until(() => dropped === 4)
})

test('accepts a command that arrives in pieces', async (t) => {
  const path = join(temporaryFolder('control'), 'socket')
  const server = await serveControl(path, async () => {})
  t.after(() => server.close())
  const socket = connect(path)
  for (const piece of ['re', 'load', '\n']) {
    await new Promise((sent) => socket.write(piece, sent))
  }
  assert.equal(await text(socket), '{"ok":true}\n')
})
