import assert from 'node:assert/strict'
import { it } from 'node:test'
import { isAlive } from '../../helpers/alive.ts'
import { forkApp } from '../../helpers/fork-app.ts'
import { freePort } from '../../helpers/free-port.ts'
import { sendRequest } from '../../helpers/traffic.ts'
import { until } from '../../helpers/until.ts'

const fixture = new URL('./cluster.fixture.ts', import.meta.url)

it('a worker of a cluster exits only after its parent has read that it no longer listens, so that no connection is lost', async () => {
  const port = await freePort()
  const parent = forkApp(fixture, { env: { PORT: port } })
  const pids = new Set<number>()
  await until(async () => pids.add((await sendRequest(port, 'GET', '/')).pid).size === 2, { what: 'both workers' })
  const [leaving = 0, staying] = pids
  process.kill(parent.pid, 'SIGSTOP')
  // They wait in the queue of the listener, before the message of the worker. The parent passes on every second one to it.
  const responses = Promise.all([1, 2, 3, 4].map(() => sendRequest(port, 'GET', '/')))
  process.kill(leaving, 'SIGTERM')
  await parent.waitFor(/"msg":"closed"/)
  process.kill(parent.pid, 'SIGCONT')
  assert.deepEqual(
    (await responses).map(({ pid }) => pid),
    Array.from({ length: 4 }, () => staying),
  )
  await until(() => !isAlive(leaving), { what: 'the end of the worker' })
})

it('a worker of a cluster whose parent stands still exits at its deadline', async () => {
  const port = await freePort()
  const parent = forkApp(fixture, { env: { PORT: port, SHUTDOWN_TIMEOUT: 500 } })
  const { pid } = await until(() => sendRequest(port, 'GET', '/'), { what: 'a worker' })
  process.kill(parent.pid, 'SIGSTOP')
  process.kill(pid, 'SIGTERM')
  await until(() => !isAlive(pid), { what: 'the end of the worker', timeoutMs: 20_000 })
  process.kill(parent.pid, 'SIGCONT')
})
