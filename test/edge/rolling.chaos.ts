import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { createProxy } from '../../src/edge/http/server.ts'
import { createTcpProxy } from '../../src/edge/tcp/index.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'
import { get } from './front.ts'

const file = new URL('instance.fixture.ts', import.meta.url)

async function start(port: number, drainDelayMs: number): Promise<App> {
  const app = forkApp(file, { args: [String(port)], env: { DRAIN_DELAY: drainDelayMs } })
  await app.waitFor(/listening/, 60_000)
  return app
}

const overHttp = (targets: string[]) => createProxy({ targets, queue: { timeoutMs: 30_000 } })
/** A TCP proxy sees no responses, so only probes detect a drain; they must run before the listener closes. */
const overTcp = (targets: string[]) => createTcpProxy({ targets, probe: { intervalMs: 200 } })

describe('three real instances behind the proxy', () => {
  for (const [how, signal, front, drainDelayMs] of [
    ['replaced one after the other, in quick succession', 'SIGTERM', overHttp, 0],
    ['replaced all at once', 'SIGTERM', overHttp, 0],
    ['killed one after the other', 'SIGKILL', overHttp, 0],
    ['replaced one after the other, on layer 4', 'SIGTERM', overTcp, 1000],
  ] as const) {
    it(`${how}: no request is lost except those running in a killed process, and none runs twice`, async () => {
      const ports = await Promise.all([freePort(), freePort(), freePort()])
      const apps = await Promise.all(ports.map((port) => start(port, drainDelayMs)))
      const past: App[] = []
      const proxy = front(ports.map((port) => `http://127.0.0.1:${port}`))
      after(() => proxy.close())
      const url = (await proxy.listen()).replace('tcp:', 'http:')
      const failures: string[] = []
      let sent = 0
      let rolling = true
      const client = async (): Promise<void> => {
        while (rolling) {
          const id = sent++
          const method = id % 2 ? 'POST' : 'GET'
          const failed = await get(`${url}/run/${id}`, { method }).then(
            ({ status, text }) => (status === 200 ? undefined : `${status} ${text}`),
            (error: Error) => String(error),
          )
          if (failed) failures.push(`${method} ${id} ${failed}`)
        }
      }
      const clients = Array.from({ length: 6 }, client)
      const replace = async (i: number): Promise<void> => {
        const old = apps[i] as App
        await old.kill(signal)
        past.push(old)
        apps[i] = await start(ports[i] as number, drainDelayMs)
      }
      for (const i of ports.keys()) {
        const mark = sent
        await until(() => sent > mark + 50)
        if (how === 'replaced all at once') await Promise.all(i === 0 ? ports.map((_, j) => replace(j)) : [])
        else await replace(i)
      }
      const mark = sent
      await until(() => sent > mark + 50)
      rolling = false
      await Promise.all(clients)
      const lost = signal === 'SIGKILL' ? failures.filter((failure) => !failure.startsWith('POST')) : failures
      assert.deepEqual(lost, [])
      const posts = [...past, ...apps].flatMap(({ stdout }) => stdout.match(/ran POST \d+/g) ?? [])
      assert.equal(new Set(posts).size, posts.length, 'a POST ran twice')
      assert.ok(posts.length > 50)
    })
  }
})
