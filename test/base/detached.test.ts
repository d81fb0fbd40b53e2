import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { detached } from '../../src/base/detached.ts'
import { Clients } from '../../src/instance/client-key.ts'
import { MemoryRecordStore } from '../../src/state/session/memory-store.ts'
import { CookieSigner } from '../../src/state/session/signer.ts'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

const count = 1_000
const mib = 2 ** 20
/** Ends of headers of 16 KiB. */
const cutOff = (end: string): string =>
  Buffer.from(`${'x'.repeat(16_384)}${end}`)
    .toString('latin1')
    .slice(16_384)

/** Memory in use after a collection that `keep` adds, for ends of 16 MiB of headers. */
function kept(keep: (i: number) => unknown): number {
  gc()
  const before = process.memoryUsage().heapUsed
  const all = Array.from({ length: count }, (_, i) => keep(i))
  gc()
  const after = process.memoryUsage().heapUsed
  assert.equal(all.length, count)
  return after - before
}

describe('what is cut out of a header', () => {
  const id = (i: number): string => `id-${i}-`.padEnd(40, '0')

  it('keeps the whole header in memory, unless it is detached', () => {
    assert.ok(kept((i) => cutOff(id(i))) > 14 * mib)
    assert.ok(kept((i) => detached(cutOff(id(i)))) < mib)
    for (const text of ['', 'short', id(1), 'ü'.repeat(20), '\ud800'.repeat(20)]) assert.equal(detached(text), text)
  })

  it('is detached where it is kept: verified cookies, addresses and ids of sessions', () => {
    const signer = new CookieSigner(['a secret for tests of more than 32 bytes'], 'sha256')
    assert.ok(kept((i) => signer.unsign(cutOff(signer.sign(id(i)))).valid) < 3 * mib)
    const clients = new Clients(['10.0.0.0/8'], 'trustProxy')
    const address = (i: number): string => `2001:db8:1111:2222:3333:4444:5555:${i.toString(16)}`
    assert.ok(kept((i) => clients.key(cutOff(address(i)), 128)) < 3 * mib)
    const sessions = new MemoryRecordStore()
    assert.ok(kept((i) => sessions.write(cutOff(id(i)), '{}', 60_000)) < 3 * mib)
    assert.equal(sessions.size, count)
  })
})
