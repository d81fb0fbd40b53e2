import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'

const fixture = new URL('cluster-handles.fixture.ts', import.meta.url).pathname

test('a worker closes its listening socket before it tells its parent', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [fixture])
  const [order = '', closed] = stdout.trim().split('\n')
  const { fd, fdWhenTold } = JSON.parse(order) as { fd: number; fdWhenTold: number }
  assert.ok(fd > 0)
  assert.equal(fdWhenTold, -1)
  assert.equal(closed, 'closed')
})
