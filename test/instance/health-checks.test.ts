import assert from 'node:assert/strict'
import { once } from 'node:events'
import fs from 'node:fs/promises'
import { createServer } from 'node:http'
import { createServer as createTcpServer, type Server } from 'node:net'
import os from 'node:os'
import { describe, it, type TestContext } from 'node:test'
import v8 from 'node:v8'
import {
  diskCheck,
  diskSpace,
  eventLoopCheck,
  httpCheck,
  memoryCheck,
  memoryUse,
  tcpCheck,
} from '../../src/instance/health/checks.ts'
import type { LoadMeter } from '../../src/instance/metrics/load.ts'
import { mockBuiltins } from '../helpers/mock-builtins.ts'
import { until } from '../helpers/until.ts'

const { signal } = new AbortController()

/** A file system of `blocks` blocks of 4 KiB, of which `bavail` are free for this user, and more for root. */
function fileSystem(t: TestContext, bavail: number, blocks: number): void {
  const statfs = async (path: string) => ({ path, bavail, blocks, bfree: bavail + 100, bsize: 4_096 })
  mockBuiltins(t, () => t.mock.method(fs, 'statfs', statfs as never))
}

async function port(t: TestContext, server: Server, host: string): Promise<number> {
  t.after(() => server.close())
  await once(server.listen(0, host), 'listening')
  return (server.address() as { port: number }).port
}

describe('disk check', () => {
  it('reads the free space of its path for unprivileged users, in bytes and as a share', async (t) => {
    fileSystem(t, 125, 1_001)
    assert.deepEqual(await diskSpace('/data'), { path: '/data', freeBytes: 512_000, freeShare: 0.125 })
  })

  it('reports no free share of a file system without blocks', async (t) => {
    fileSystem(t, 0, 0)
    assert.deepEqual(await diskSpace('/proc'), { path: '/proc', freeBytes: 0, freeShare: 0 })
  })

  it('fails below the free bytes, not at them', async (t) => {
    fileSystem(t, 100, 100)
    const check = (minFreeBytes: number): unknown => diskCheck({ path: '/data', minFreeBytes, minFreeShare: 0 })(signal)
    await check(409_600)
    await assert.rejects(async () => check(409_601), { message: '/data has 409600 bytes free (100 %)' })
  })

  it('fails below the free share, not at it', async (t) => {
    fileSystem(t, 50, 1_000)
    const check = (minFreeShare: number): unknown => diskCheck({ path: '/data', minFreeBytes: 0, minFreeShare })(signal)
    await check(0.05)
    await assert.rejects(async () => check(0.051), { message: '/data has 204800 bytes free (5 %)' })
  })

  it('fails if the path does not exist', async () => {
    const check = diskCheck({ path: '/no/such/path', minFreeBytes: 0, minFreeShare: 0 })
    await assert.rejects(async () => check(signal), { code: 'ENOENT' })
  })
})

const limit = 256 * 2 ** 20

/** A machine of 1,000 bytes and a heap of at most 256 MiB, with 5 bytes in the young generation. */
function memory(t: TestContext, use: { rss: number; heapUsed: number; cgroup: number }): void {
  const { rss, heapUsed, cgroup } = use
  mockBuiltins(t, () => {
    t.mock.method(process.memoryUsage, 'rss', () => rss)
    t.mock.method(process, 'constrainedMemory', () => cgroup)
    t.mock.method(os, 'totalmem', () => 1_000)
    t.mock.method(v8, 'getHeapStatistics', (() => ({ heap_size_limit: limit + 3 * 2 ** 20 })) as never)
    const spaces = { new_space: 2, new_large_object_space: 3, old_space: heapUsed - 7, large_object_space: 7 }
    const all = Object.entries(spaces).map(([space_name, space_used_size]) => ({ space_name, space_used_size }))
    t.mock.method(v8, 'getHeapSpaceStatistics', (() => all) as never)
  })
}

describe('memory check', () => {
  const limits = { maxHeapShare: 0.5, maxRssShare: 0.75 }

  it('reports the resident set over the cgroup’s limit, and the heap over that of V8', (t) => {
    memory(t, { rss: 333, heapUsed: 40, cgroup: 400 })
    assert.deepEqual(memoryUse(), { used: 333, total: 400, percentage: 83.3, heapUsed: 40, heapLimit: limit })
  })

  for (const [what, cgroup] of [
    ['no cgroup limits the process', 0],
    ['the cgroup’s limit is that of the machine', 1_000],
    ['the cgroup’s limit is near 2^64', 2 ** 64],
  ] as const) {
    it(`uses the memory of the machine and no limit for the resident set if ${what}`, (t) => {
      memory(t, { rss: 999, heapUsed: 40, cgroup })
      assert.deepEqual([memoryUse().total, memoryUse().percentage], [1_000, 99.9])
      memoryCheck(limits)(signal)
    })
  }

  it('passes at both shares', (t) => {
    memory(t, { rss: 300, heapUsed: limit / 2, cgroup: 400 })
    memoryCheck(limits)(signal)
  })

  it('fails when the heap exceeds its share', (t) => {
    memory(t, { rss: 1, heapUsed: limit / 2 + 1, cgroup: 400 })
    assert.throws(() => memoryCheck(limits)(signal), { message: `heap: ${limit / 2 + 1} of ${limit} bytes` })
  })

  it('fails when the resident set exceeds its share of the cgroup’s limit', (t) => {
    memory(t, { rss: 301, heapUsed: 1, cgroup: 400 })
    assert.throws(() => memoryCheck(limits)(signal), { message: 'resident set: 301 of 400 bytes' })
  })
})

describe('event loop check', () => {
  const run = (eventLoopDelayMs: number, eventLoopUtilization: number): unknown =>
    eventLoopCheck({ eventLoopDelayMs, eventLoopUtilization } as LoadMeter, { maxDelayMs: 100, maxUtilization: 0.9 })(
      signal,
    )

  it('passes at both limits and fails above each', () => {
    run(100, 0.9)
    assert.throws(() => run(101.2, 0), { message: 'delayed by 101 ms' })
    assert.throws(() => run(0, 0.91), { message: 'busy for 91 %' })
  })
})

describe('HTTP check', () => {
  it('passes below status 400, follows no redirect, and fails from 400', async (t) => {
    const paths: string[] = []
    const server = createServer((request, response) => {
      paths.push(request.url ?? '')
      response.writeHead(Number(request.url?.slice(1)), { location: '/500' }).end('body')
    })
    const url = `http://127.0.0.1:${await port(t, server, '127.0.0.1')}`
    for (const status of [200, 204, 302, 399]) await httpCheck(`${url}/${status}`)(signal)
    for (const status of [400, 404, 503]) {
      await assert.rejects(async () => httpCheck(`${url}/${status}`)(signal), { message: `status ${status}` })
    }
    assert.deepEqual(paths, ['/200', '/204', '/302', '/399', '/400', '/404', '/503'])
  })

  it('does not wait for the end of a body, and leaves no connection with an unread one', async (t) => {
    let isClosed = false
    const server = createServer((_request, response) => {
      response.on('close', () => {
        isClosed = true
      })
      response.writeHead(200).write('never complete')
    })
    const url = `http://127.0.0.1:${await port(t, server, '127.0.0.1')}/`
    t.after(() => server.closeAllConnections())
    await httpCheck(url)(signal)
    await until(() => isClosed, { timeoutMs: 20_000, what: 'the end of the response' })
  })

  it('ends with its signal', async (t) => {
    const silent = await port(
      t,
      createTcpServer((socket) => void t.after(() => socket.destroy())),
      '127.0.0.1',
    )
    const timeout = new AbortController()
    let error: unknown
    void (httpCheck(`http://127.0.0.1:${silent}/`)(timeout.signal) as Promise<void>).catch((failure) => {
      error = failure
    })
    timeout.abort()
    await until(() => error, { timeoutMs: 20_000, what: 'the end of the check' })
    assert.equal((error as Error).name, 'AbortError')
  })
})

describe('TCP check', () => {
  for (const host of ['127.0.0.1', '[::1]']) {
    it(`connects to ${host}, closes the connection, and fails without a listener`, async (t) => {
      const server = createTcpServer()
      const closed = once(server, 'connection').then(async ([socket]) => await once(socket.resume(), 'close'))
      const open = await port(t, server, host.replace(/^\[|\]$/g, ''))
      await tcpCheck(`${host}:${open}`)(signal)
      await closed
      await new Promise((resolve) => server.close(resolve))
      await assert.rejects(async () => tcpCheck(`${host}:${open}`)(signal), { code: 'ECONNREFUSED' })
    })
  }

  it('ends with its signal', async (t) => {
    const open = await port(t, createTcpServer(), '127.0.0.1')
    const check = tcpCheck(`127.0.0.1:${open}`)
    await assert.rejects(async () => check(AbortSignal.abort()), { name: 'AbortError' })
  })
})
