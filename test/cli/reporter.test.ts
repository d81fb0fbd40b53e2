import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import { json } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { Reporter } from '../../src/cli/reporter.ts'
import { mockLimits, mockTimers } from '../helpers/clock.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'

async function dashboardOf(
  t: TestContext,
  status: number,
  port = 0,
): Promise<{ url: string; got: unknown[]; server: Server }> {
  const got: unknown[] = []
  const server = createServer(async (request, response) => {
    got.push([request.method, request.url, request.headers.authorization, await json(request)])
    response.writeHead(status).end()
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  t.after(() => server.close())
  return { url: `http://127.0.0.1:${(server.address() as { port: number }).port}/fleet`, got, server }
}

const text = 'x'.repeat(600)

test('posts events in order, to the first dashboard that accepts them', async (t) => {
  mockLimits(t)
  const off = await dashboardOf(t, 404)
  const other = await dashboardOf(t, 200)
  const on = await dashboardOf(t, 202)
  const reporter = new Reporter({ dashboards: () => [off.url, other.url, on.url], token: 'token' })
  reporter.add({ kind: 'deploy-started', text, version: '2' })
  reporter.add({ kind: 'killed', text: 'SIGKILL', instance: 'a' })
  await reporter.close()
  assert.deepEqual(on.got, [
    ['POST', '/fleet/events', 'Bearer token', { kind: 'deploy-started', text: text.slice(0, 500), version: '2' }],
    ['POST', '/fleet/events', 'Bearer token', { kind: 'killed', text: 'SIGKILL', instance: 'a' }],
  ])
  assert.deepEqual([off.got.length, other.got.length], [1, 1])
  reporter.add({ kind: 'killed', text: 'late' })
  await reporter.close()
  assert.equal(on.got.length, 2, 'it is closed')
})

test('posts nothing without a token, and does not fail without a dashboard', async (t) => {
  const on = await dashboardOf(t, 202)
  const silent = new Reporter({ dashboards: () => [on.url], token: undefined })
  silent.add({ kind: 'killed', text })
  await silent.close()
  assert.deepEqual(on.got, [])
  const lost = new Reporter({ dashboards: () => ['http://127.0.0.1:1/fleet'], token: 'token' })
  lost.add({ kind: 'killed', text })
  await lost.close()
})

test('posts an event once a dashboard responds again, such as that of the only instance, which was killed', async (t) => {
  mockLimits(t)
  const port = await freePort()
  let tries = 0
  const dashboards = () => {
    tries++
    return [`http://127.0.0.1:${port}/fleet`]
  }
  const reporter = new Reporter({ dashboards, token: 'token' })
  reporter.add({ kind: 'killed', text: 'SIGKILL', instance: 'a' })
  await until(() => tries === 2, { what: 'a second try' })
  const { got } = await dashboardOf(t, 202, port)
  await until(() => got.length === 1)
  await reporter.close()
  assert.equal(got.length, 1)
})

test('does not repeat an event that a dashboard rejected', async (t) => {
  const { url, got } = await dashboardOf(t, 503)
  const reporter = new Reporter({ dashboards: () => [url], token: 'token' })
  for (const text of ['one', 'two']) reporter.add({ kind: 'killed', text })
  await until(() => got.length === 2)
  assert.deepEqual(
    got.map((request) => (request as { text: string }[])[3]?.text),
    ['one', 'two'],
  )
  await reporter.close()
})

test('gives up an event after a minute without a response, and goes on with the next', async (t) => {
  let [now, tries] = [0, 0]
  t.mock.method(performance, 'now', () => now)
  const dashboards = () => {
    tries++
    now += 60_000
    return []
  }
  const reporter = new Reporter({ dashboards, token: 'token' })
  for (const text of ['one', 'two']) reporter.add({ kind: 'killed', text })
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
  assert.equal(tries, 2)
  await reporter.close()
})

test('tries each event once more when the command ends, without the pause', async (t) => {
  mockTimers(t)
  let tries = 0
  const dashboards = () => {
    if (++tries > 10) throw new Error('it does not end')
    return []
  }
  const reporter = new Reporter({ dashboards, token: 'token' })
  for (const text of ['one', 'two']) reporter.add({ kind: 'killed', text })
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
  assert.equal(tries, 1)
  await reporter.close()
  assert.equal(tries, 3)
})

test('tries three dashboards, and the one that accepted the last event first', async (t) => {
  mockLimits(t)
  const off = await Promise.all([503, 503, 503].map((status) => dashboardOf(t, status)))
  const [on, second] = [await dashboardOf(t, 202), await dashboardOf(t, 202)]
  const urls = [...off.slice(0, 2), on, off[2] as (typeof off)[number], second].map(({ url }) => url)
  const reporter = new Reporter({ dashboards: () => urls, token: 'token' })
  reporter.add({ kind: 'killed', text: 'one' })
  reporter.add({ kind: 'killed', text: 'two' })
  await reporter.close()
  assert.deepEqual(
    [...off, on].map(({ got }) => got.length),
    [1, 1, 0, 2],
  )
  const lost = new Reporter({ dashboards: () => [...off.map(({ url }) => url), second.url], token: 'token' })
  lost.add({ kind: 'killed', text: 'three' })
  await lost.close()
  assert.deepEqual(
    [...off, second].map(({ got }) => got.length),
    [2, 2, 1, 0],
  )
})

test('drops what is not sent two seconds after the end', async (t) => {
  let asked = 0
  const server = createServer(() => void asked++)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}/fleet`
  const reporter = new Reporter({ dashboards: () => [url], token: 'token' })
  for (let i = 0; i < 5; i++) reporter.add({ kind: 'killed', text: String(i) })
  await reporter.close()
  // Each has a second.
  assert.ok(asked >= 2 && asked <= 3, String(asked))
})
