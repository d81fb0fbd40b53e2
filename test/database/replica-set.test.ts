import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { policies } from '../../src/database/policies.ts'
import { gone, Replica } from '../../src/database/replica-set.ts'
import { afterwards, bytes, PrimaryHistory, type ServerClient, sample } from '../../src/database/watch.ts'

/** A server that returns a given sample, or does not respond. */
class Told implements ServerClient {
  position: string | undefined = '0/5000'
  standby = true
  async $queryRawUnsafe(): Promise<unknown> {
    if (this.position === undefined) throw new Error('refused')
    return [{ standby: this.standby, position: this.position, server: 'a', block: 8192 }]
  }
  async $disconnect(): Promise<void> {}
}

describe('a watched replica', () => {
  const watched = (rise: number, fall: number) => {
    const server = new Told()
    const replica = new Replica(server, 0, { rise, fall }, () => {})
    const history = new PrimaryHistory()
    return { server, replica, history, probe: () => replica.probe(history, 1_000, 500) }
  }

  it('leaves after `fall` failed probes in a row, and returns after `rise` successful ones', async () => {
    const { server, replica, probe } = watched(3, 2)
    await probe()
    assert.equal(replica.healthy, true, 'the first response counts')
    const seen: boolean[] = []
    for (const responses of [false, true, false, false, true, true, false, true, true, true]) {
      server.position = responses ? '0/5000' : undefined
      await probe()
      seen.push(replica.healthy)
    }
    assert.deepEqual(seen, [true, true, true, false, false, false, false, false, false, true])
  })

  it('has no lag while the primary is idle or down, else the age of its oldest missing write', () => {
    const history = new PrimaryHistory()
    const primary = (position: number, at: number) => history.add({ position, server: 'p', standby: false }, at)
    primary(100, 0)
    primary(100, 60_000)
    assert.equal(history.lag(100), 0)
    primary(200, 61_000)
    primary(300, 62_000)
    assert.deepEqual([history.lag(100), history.lag(200), history.lag(250), history.lag(300)], [1_000, 0, 0, 0])
    primary(300, 70_000)
    assert.deepEqual([history.lag(100), history.lag(299)], [9_000, 8_000])
    // A new primary that lacks the last writes of the old one: the old positions are meaningless.
    primary(150, 71_000)
    assert.equal(history.lag(150), 0)
  })

  it('tracks reads in any order, and rejects those in flight once when it is gone', async () => {
    const { replica } = watched(1, 1)
    const replies = Array.from({ length: 5 }, () => Promise.withResolvers<number>())
    const reads = replies.map(({ promise }) => replica.read(() => promise))
    const flying = [replica.inFlight]
    for (const index of [1, 4, 0]) {
      replies[index]?.resolve(index)
      assert.equal(await reads[index], index)
      flying.push(replica.inFlight)
    }
    replica.failed()
    flying.push(replica.inFlight)
    const later = replica.read(async () => 7)
    flying.push(replica.inFlight)
    for (const index of [2, 3]) {
      await assert.rejects(reads[index] as Promise<number>, (reason) => reason === gone)
      replies[index]?.resolve(index)
    }
    assert.equal(await later, 7)
    assert.deepEqual([...flying, replica.inFlight], [5, 4, 3, 2, 0, 1, 0])
  })

  it('takes out a server that is not in recovery, unless it is the primary', async () => {
    const { server, replica, history, probe } = watched(1, 1)
    server.standby = false
    await probe()
    assert.equal(replica.healthy, false)
    history.add({ position: 1, server: 'a', standby: false }, 0)
    await probe()
    assert.deepEqual([replica.healthy, replica.replayed], [true, Number.POSITIVE_INFINITY])
  })
})

describe('positions', () => {
  it('are in bytes, and within a page header are rounded down to the page boundary', async () => {
    assert.equal(bytes('16/B374D848'), 0x16_b374_d848)
    assert.equal(bytes(null), 0)
    const server = new Told()
    const at: [string, number][] = [
      ['0/4000', 0x4000],
      ['0/4018', 0x4000],
      ['0/4028', 0x4000],
      ['0/4030', 0x4030],
    ]
    for (const [position, expected] of at) {
      server.position = position
      assert.equal((await sample(server)).position, expected, position)
    }
  })

  it('ignores a query sent before the write; concurrent callers share the next one', async () => {
    const responses: PromiseWithResolvers<number>[] = []
    const send = afterwards(() => {
      const response = Promise.withResolvers<number>()
      responses.push(response)
      return response.promise
    })
    const first = send()
    const later = [send(), send(), send()]
    assert.equal(responses.length, 1)
    responses[0]?.resolve(1)
    assert.equal(await first, 1)
    await Promise.resolve()
    assert.equal(responses.length, 2)
    responses[1]?.reject(new Error('lost'))
    for (const each of later) await assert.rejects(each, /lost/)
    const again = send()
    responses[2]?.resolve(3)
    assert.equal(await again, 3)
  })

  it('queries again for a caller during the next query', async () => {
    const responses: PromiseWithResolvers<number>[] = []
    const send = afterwards(() => {
      const response = Promise.withResolvers<number>()
      responses.push(response)
      return response.promise
    })
    const [first, second] = [send(), send()]
    responses[0]?.resolve(1)
    assert.equal(await first, 1)
    await Promise.resolve()
    const third = send()
    responses[1]?.resolve(2)
    assert.equal(await second, 2)
    await Promise.resolve()
    responses[2]?.resolve(3)
    assert.deepEqual([await third, responses.length], [3, 3])
  })

  it('are the replayed one of a standby and the inserted one of a primary, of a server known by its start and port', async () => {
    let statement = ''
    const $queryRawUnsafe = async (query: string) => {
      statement = query
      return [{ standby: true, position: '0/1', server: 'a', block: 8192 }]
    }
    await sample({ $queryRawUnsafe, $disconnect: async () => {} })
    // The log that a standby has received may not be replayed yet, and the flushed one of a primary lacks recent commits.
    assert.match(
      statement,
      /CASE WHEN pg_is_in_recovery\(\) THEN pg_last_wal_replay_lsn\(\) ELSE pg_current_wal_insert_lsn\(\) END/,
    )
    assert.match(statement, /pg_postmaster_start_time\(\), inet_server_port\(\)\) AS server/)
  })
})

describe('policies', () => {
  const replica = (inFlight: number, latencyMs = 1) => ({ inFlight, latencyMs })
  const loads = [0, 1, 2]
  const orders = loads.flatMap((a) => loads.flatMap((b) => loads.map((c) => [a, b, c])))

  it('least-in-flight picks the least loaded in every order, and alternates among equals', () => {
    for (const order of orders) {
      const pick = policies['least-in-flight']()
      const replicas = order.map((inFlight) => replica(inFlight))
      for (let i = 0; i < 4; i++) assert.equal(pick(replicas)?.inFlight, Math.min(...order), String(order))
    }
    const pick = policies['least-in-flight']()
    const equals = [replica(0), replica(0), replica(0)]
    assert.equal(new Set([1, 2, 3].map(() => pick(equals))).size, 3)
  })

  it('latency picks the fastest, round-robin alternates, and an empty list yields undefined', () => {
    const fast = replica(3, 1)
    const slow = replica(0, 10)
    assert.equal(policies.latency()([slow, fast]), fast)
    assert.equal(policies.latency()([replica(30, 1), slow]), slow)
    const pick = policies['round-robin']()
    assert.deepEqual([pick([fast, slow]), pick([fast, slow]), pick([fast, slow])], [fast, slow, fast])
    for (const policy of Object.values(policies)) assert.equal(policy()([]), undefined)
  })
})
