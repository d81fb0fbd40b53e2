import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { Duplex, PassThrough } from 'node:stream'
import { describe, it, type TestContext } from 'node:test'
import { StallGuard } from '../../src/base/socket-bounds.ts'
import { join, watchDisconnect } from '../../src/edge/join.ts'
import { listen } from '../../src/edge/listen.ts'
import { clock } from '../helpers/clock.ts'

const turn = async (): Promise<void> => {
  for (let i = 0; i < 4; i++) await new Promise(setImmediate)
}

/** One side of a tunnel: what a test pushes was received, and what it got was sent. */
class Side extends Duplex {
  sent = ''
  /** Set by a test to finish later. */
  finishing: (() => void) | undefined
  holds = false
  idle: [number, () => void] | undefined
  readonly closes: number[] = []

  constructor() {
    super({ allowHalfOpen: true, autoDestroy: false })
  }
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.sent += chunk
    done()
  }
  override _final(done: () => void): void {
    if (this.holds) this.finishing = done
    else done()
  }
  setTimeout(ms: number, late: () => void): void {
    this.idle = [ms, late]
  }
}

function tunnel(t: TestContext) {
  const time = clock(t)
  const [client, upstream] = [new Side(), new Side()]
  const stalls = new StallGuard(1000)
  const added: unknown[] = []
  t.mock.method(stalls, 'add', (side: unknown) => void added.push(side))
  join(client, upstream, { idleTimeoutMs: 700, stalls })
  return { client, upstream, added, time }
}

describe('a tunnel', () => {
  it('forwards bytes in both directions, and watches both sides for stalls', async (t) => {
    const { client, upstream, added } = tunnel(t)
    client.push('a')
    upstream.push('b')
    await turn()
    assert.deepEqual([upstream.sent, client.sent], ['a', 'b'])
    assert.deepEqual(added, [client, upstream])
  })

  for (const which of ['client', 'upstream'] as const) {
    const sides = ({ client, upstream }: ReturnType<typeof tunnel>): [Side, Side] =>
      which === 'client' ? [client, upstream] : [upstream, client]

    it(`ends the other side when the ${which} ends, and closes both a second later`, async (t) => {
      const given = tunnel(t)
      const [from, to] = sides(given)
      from.push('last')
      from.push(null)
      await turn()
      assert.deepEqual([to.sent, to.writableFinished, to.destroyed, from.destroyed], ['last', true, false, false])
      given.time.tick(999)
      assert.deepEqual([from.destroyed, to.destroyed], [false, false])
      given.time.tick(1)
      assert.deepEqual([from.destroyed, to.destroyed], [true, true])
    })

    it(`needs no timer when the ${which} has ended and the other closes`, async (t) => {
      const given = tunnel(t)
      const [from, to] = sides(given)
      from.push(null)
      await turn()
      assert.equal(given.time.timers(), 1)
      to.destroy()
      await turn()
      assert.deepEqual([from.destroyed, given.time.timers()], [true, 0])
    })

    it(`delivers the bytes of the ${which} before it closes the other side`, async (t) => {
      const [from, to] = sides(tunnel(t))
      to.holds = true
      from.push('last')
      from.push(null)
      await turn()
      from.destroy()
      await turn()
      assert.deepEqual([to.sent, to.destroyed], ['last', false])
      to.finishing?.()
      await turn()
      assert.equal(to.destroyed, true)
    })

    it(`closes the other side at once when the ${which} closes without an end`, async (t) => {
      const [from, to] = sides(tunnel(t))
      from.destroy()
      await turn()
      assert.equal(to.destroyed, true)
    })

    it(`breaks the other side off when the ${which} breaks`, async (t) => {
      const [from, to] = sides(tunnel(t))
      Object.assign(to, { rstCode: 0, close: (code: number) => to.closes.push(code) })
      from.destroy(new Error('reset'))
      await turn()
      assert.deepEqual([to.destroyed, to.closes], [true, [10]])
    })
  }

  it('closes the upstream when it is idle for the time limit, which covers both directions', async (t) => {
    const { client, upstream } = tunnel(t)
    assert.equal(upstream.idle?.[0], 700)
    assert.equal(client.idle, undefined)
    upstream.idle?.[1]()
    await turn()
    assert.deepEqual([upstream.destroyed, client.destroyed], [true, true])
    clock(t)
    // A stream of HTTP/2 may have no timer.
    join(new Side(), new PassThrough(), { idleTimeoutMs: 700, stalls: new StallGuard(0) })
  })
})

describe('a client that waits for its upgrade', () => {
  it('is closed when it ends, and its early bytes stay readable', async () => {
    const client = new Side()
    const stop = watchDisconnect(client)
    client.push('early')
    await turn()
    assert.equal(client.readableLength, 5)
    stop()
    assert.deepEqual([client.listenerCount('readable'), client.listenerCount('end')], [0, 0])
    assert.equal(String(client.read()), 'early')
    const gone = new Side()
    watchDisconnect(gone)
    gone.push(null)
    await turn()
    assert.equal(gone.destroyed, true)
  })
})

describe('a server', () => {
  it('listens on any free port of the loopback unless told otherwise', async (t) => {
    const [one, other] = [createServer(), createServer()]
    t.after(() => [one, other].forEach((server) => void server.close()))
    assert.match(await listen(one, {}), /^127\.0\.0\.1:\d+$/)
    assert.match(await listen(other, { host: '::1' }), /^\[::1\]:\d+$/)
    assert.equal(one.listenerCount('error'), 0)
    const { port } = one.address() as { port: number }
    await assert.rejects(listen(createServer(), { port }), {
      code: 'FLEET_ERR_PORT_TAKEN',
      message: new RegExp(`127.0.0.1:${port}`),
    })
    await assert.rejects(listen(createServer(), { host: '192.0.2.1' }), { code: 'EADDRNOTAVAIL' })
  })
})
