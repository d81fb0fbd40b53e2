import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { readEnv } from '../../../src/base/env.ts'
import { freePort, isPortFree } from '../../../src/cli/up/port.ts'
import { choosePorts } from '../../../src/cli/up/ports.ts'
import { forkApp } from '../../helpers/fork-app.ts'
import { until } from '../../helpers/until.ts'

test('concurrent calls never return the same port', async () => {
  const starts = await Promise.all(Array.from({ length: 60 }, (_, i) => freePort(1 + (i % 4))))
  const ports = starts.flatMap((first, i) => Array.from({ length: 1 + (i % 4) }, (_, offset) => first + offset))
  assert.equal(new Set(ports).size, ports.length)
  for (const port of ports) assert.ok(port > 10_000 && port < 32_000, `${port}`)
  await assert.rejects(freePort(100), RangeError)
})

test('skips a port that is in use', async (t) => {
  const next = (await freePort()) + 1
  const server = createServer()
  t.after(() => server.close())
  // If that fails, another process listens there, which serves as well.
  await new Promise<void>((resolve) => server.once('error', () => resolve()).listen(next, '127.0.0.1', resolve))
  assert.equal(await isPortFree(next), false)
  assert.notEqual(await freePort(), next)
})

test('several ports are free together', async (t) => {
  const taken = (await freePort()) + 2
  const server = createServer()
  t.after(() => server.close())
  await new Promise<void>((resolve) => server.once('error', () => resolve()).listen(taken, '127.0.0.1', resolve))
  const first = await freePort(3)
  assert.ok(taken < first || taken > first + 2, `${first} to ${first + 2}, but ${taken} is taken`)
})

test('a port is free if no address has it', {
  skip: process.platform === 'linux' ? false : 'needs another loopback address',
}, async (t) => {
  const port = await freePort()
  const server = createServer()
  t.after(() => server.close())
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.2', resolve))
  assert.equal(await isPortFree(port), false)
})

test('processes get separate ports and release them at exit', async () => {
  const others = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const child = forkApp(new URL('port.fixture.ts', import.meta.url))
      const [said] = await child.waitFor(/\[.*\]/)
      return { child, ports: JSON.parse(said) as number[] }
    }),
  )
  const slices = [...others.map(({ ports }) => ports), [await freePort()]].map(
    (ports) => new Set(ports.map((port) => Math.floor(port / 100))),
  )
  const all = slices.flatMap((mine) => [...mine])
  assert.equal(new Set(all).size, all.length, all.join())
  const lease = (all[0] ?? 0) * 100
  assert.equal(await isPortFree(lease), false)
  await Promise.all(others.map(({ child }) => child.kill('SIGKILL')))
  await until(() => isPortFree(lease), { what: 'the end of the lease' })
})

test('fleet up listens on 8080 and from 4001, on those of the environment, or on a free one', async () => {
  // Other programs of this machine may use them.
  const usual = await choosePorts(readEnv({}), 2).catch(({ message }: Error) => message)
  if (typeof usual === 'string') assert.match(usual, /\b(?:8080, which the front|400[12], which an instance) needs/)
  else assert.deepEqual(usual, { front: 8080, instances: [4001, 4002] })
  const base = await freePort(3)
  const env = { FLEET_BASE_PORT: String(base), FLEET_PORT: '0' }
  const { front, instances } = await choosePorts(readEnv(env), 3)
  assert.deepEqual(instances, [base, base + 1, base + 2])
  assert.ok(front > 1_024 && !instances.includes(front))
  assert.ok(await isPortFree(front))
})
