import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import net, { connect, createServer, Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { askReload, serveControl } from '../../src/host/control.ts'
import '../helpers/cleanup.ts'

const path = (): string => join(temporaryFolder('control'), 'socket')

test('reports the outcome of a reload to the caller', async (t) => {
  const at = path()
  let reloads = 0
  const server = await serveControl(at, async () => {
    if (++reloads === 2) throw new Error('the build is broken')
  })
  t.after(() => server.close())
  await askReload(at)
  await assert.rejects(askReload(at), { code: 'FLEET_ERR_RELOAD_FAILED', message: /the build is broken/ })
  assert.equal(reloads, 2)
})

test('accepts connections of this user only', async (t) => {
  const at = path()
  const server = await serveControl(at, async () => {})
  t.after(() => server.close())
  assert.equal(statSync(at).mode & 0o777, 0o600)
})

test('keeps the mask of new files as it was', async (t) => {
  const before = process.umask(0o022)
  t.after(() => process.umask(before))
  const server = await serveControl(path(), async () => {})
  t.after(() => server.close())
  assert.equal(process.umask(0o022), 0o022)
})

test('limits the time for a command, not that of the reload', async (t) => {
  const at = path()
  const reload = Promise.withResolvers<void>()
  const timeouts: (number | undefined)[] = []
  const server = await serveControl(at, () => reload.promise)
  t.after(() => server.close())
  const asked = askReload(at)
  const [socket] = (await once(server, 'connection')) as [Socket]
  timeouts.push(socket.timeout)
  await once(socket, 'data')
  timeouts.push(socket.timeout)
  assert.deepEqual(timeouts, [5_000, 0])
  reload.resolve()
  await asked
})

test('accepts at most 16 connections at a time', async (t) => {
  const server = await serveControl(path(), async () => {})
  t.after(() => server.close())
  assert.equal(server.maxConnections, 16)
})

test('survives errors of a connection and of accepting one', async (t) => {
  const at = path()
  const server = await serveControl(at, async () => {})
  t.after(() => server.close())
  const other = connect(at)
  const [socket] = (await once(server, 'connection')) as [Socket]
  for (const source of [server, socket]) source.emit('error', new Error('EMFILE'))
  other.destroy()
  await askReload(at)
})

test('accepts a command that arrives in pieces', async (t) => {
  const at = path()
  let reloads = 0
  const server = await serveControl(at, async () => void reloads++)
  t.after(() => server.close())
  const response = await new Promise<string>((resolve) => {
    const socket = connect(at, () => socket.write('rel'))
    socket.setEncoding('utf8').once('data', resolve)
    server.once('connection', (accepted) => accepted.once('data', () => socket.write('oad\n')))
  })
  assert.deepEqual([response, reloads], ['{"ok":true}\n', 1])
})

test('rejects any other command without an effect', async (t) => {
  const at = path()
  const server = await serveControl(at, () => Promise.reject(new Error('must not be called')))
  t.after(() => server.close())
  const response = await new Promise<string>((resolve) => {
    const socket = connect(at, () => socket.write('GET / HTTP/1.1\r\n\r\n'))
    socket.setEncoding('utf8').once('data', resolve)
  })
  assert.deepEqual(JSON.parse(response), { ok: false, reason: 'unknown command; expected `reload`' })
})

for (const response of ['hello\n', 'null', '[]', '{"ok":"yes"}', '']) {
  test(`rejects ${JSON.stringify(response)}, which is not an outcome of a reload`, async (t) => {
    const at = path()
    const server = createServer((socket) => socket.end(response))
    await new Promise<void>((resolve) => server.listen(at, resolve))
    t.after(() => server.close())
    await assert.rejects(askReload(at), { code: 'FLEET_ERR_CONTROL' })
  })
}

test('fails when no group listens', async () => {
  await assert.rejects(askReload(path()), { code: 'FLEET_ERR_CONTROL', message: /ENOENT/ })
})

test('leaves a path in use and a file that is no socket alone', async (t) => {
  const at = path()
  const first = await serveControl(at, async () => {})
  t.after(() => first.close())
  await assert.rejects(
    serveControl(at, async () => {}),
    { code: 'FLEET_ERR_CONTROL', message: /EADDRINUSE/ },
  )
  await askReload(at)

  const file = path()
  writeFileSync(file, 'precious')
  await assert.rejects(
    serveControl(file, async () => {}),
    { code: 'FLEET_ERR_CONTROL' },
  )
  assert.equal(readFileSync(file, 'utf8'), 'precious')
})

test('leaves the socket of a group alone that accepts no further connection now', async (t) => {
  const at = path()
  const first = await serveControl(at, async () => {})
  t.after(() => first.close())
  const { mock } = t.mock.method(net, 'connect', () =>
    new Socket().destroy(Object.assign(new Error('connect EAGAIN'), { code: 'EAGAIN' })),
  )
  syncBuiltinESMExports()
  const second = await serveControl(at, async () => {}).catch((error: Error) => error)
  mock.restore()
  syncBuiltinESMExports()
  if (!(second instanceof Error)) second.close()
  assert.match(String(second), /EADDRINUSE/)
  assert.equal(mock.callCount(), 1)
  await askReload(at)
})

test('takes over the stale socket of a killed group', async (t) => {
  const at = path()
  const program = `require('net').createServer().listen(${JSON.stringify(at)}, () => process.kill(process.pid, 'SIGKILL'))`
  assert.equal(spawnSync(process.execPath, ['-e', program]).signal, 'SIGKILL')
  assert.ok(existsSync(at))
  const server = await serveControl(at, async () => {})
  t.after(() => server.close())
  await askReload(at)
})
