import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { askReload, serveControl } from '../../src/host/control.ts'
import '../helpers/cleanup.ts'
import { play, type Script } from '../helpers/hostile.ts'
import { until } from '../helpers/until.ts'

const refusal = /^\{"ok":false,"reason":"unknown command; expected `reload`"\}\n$/

/** In each, the server closes the connection. */
const scripts: Record<string, Script> = {
  'sends nothing': {},
  'sends half a command': { bytes: 'relo' },
  'drips something else': { drip: 'x', gets: refusal },
  'sends without end': { bytes: 'reload'.repeat(20_000), drip: 'x'.repeat(10_000), gets: refusal },
  'ends its side': { acts: 'end' },
}

test('disconnects a hostile client of the control socket, serves others, and reloads nothing for it', async (t) => {
  const path = join(temporaryFolder('control'), 'socket')
  let reloads = 0
  const server = await serveControl(path, async () => void reloads++)
  t.after(() => server.close())
  await Promise.all(Object.values(scripts).map((script) => play({ path }, script)))
  await askReload(path)
  assert.equal(reloads, 1)
  await until(() => new Promise((done) => server.getConnections((_, open) => done(open === 0))))
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
