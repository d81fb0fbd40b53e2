import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { http2, http10, http11, http11Streamed, type Outcome } from '../http/hostile/clients.ts'
import { sendAll, startHarness } from '../http/hostile/harness.ts'
import { type Case, type Client, cases } from '../http/hostile/scripts.ts'
import { type Script, thenEnd, thenReset } from '../http/hostile/upstream.ts'

const response = 'HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: 1\r\n\r\n'
const scripts = new Map<string, Script>([...cases].map(([name, { script }]) => [`/${name}`, script]))
for (const [at] of [...response].entries()) {
  scripts.set(`/end/${at}`, thenEnd(response.slice(0, at)))
  scripts.set(`/reset/${at}`, thenReset(response.slice(0, at)))
}
const { plain, session, idle } = await startHarness(scripts, new URL('plugin.fixture.ts', import.meta.url))

const clients: Record<Client, (path: string) => Promise<Outcome>> = {
  'HTTP/1.1': (path) => http11(plain, path),
  'HTTP/1.1 streamed': (path) => http11Streamed(plain, path),
  'HTTP/1.0': (path) => http10(plain, path),
  'HTTP/2': (path) => http2(session, path),
}
const outcomesOf = (client: Client, names: Iterable<string>): Promise<Map<string, Outcome>> =>
  sendAll(names, (name) => clients[client](`/${encodeURIComponent(name)}`))

const show = ({ status, complete, text }: Outcome): string =>
  `${status} ${complete ? 'whole' : 'broken'} ${JSON.stringify(text.slice(0, 100))}`

/**
 * As for `createProxy`, except that Fastify sends no status above 599, that a break before the first byte is a 502, and that
 * the server of the app limits the head of a response over HTTP/2.
 */
function check(name: string, client: Client, { expected, text, trailers }: Case, outcome: Outcome): void {
  const wanted = typeof expected === 'object' ? (expected[client] ?? expected.others) : expected
  if (wanted === 'any') return
  if (name === '8,000 fields' && client === 'HTTP/2') {
    assert.equal(outcome.status, 502, show(outcome))
    return
  }
  if (wanted === 'broken') {
    assert.ok(!outcome.complete || outcome.status >= 500, show(outcome))
    return
  }
  assert.ok(outcome.complete, show(outcome))
  assert.equal(outcome.status, wanted > 599 ? 502 : wanted, show(outcome))
  if (text !== undefined && wanted <= 599) assert.equal(outcome.text, text, show(outcome))
  if (trailers && client !== 'HTTP/1.0') {
    assert.deepEqual(Object.fromEntries(Object.entries(outcome.trailers)), trailers)
  }
}

describe('a hostile upstream of the proxy plugin', () => {
  for (const client of Object.keys(clients) as Client[]) {
    it(`does no harm to a client of ${client}`, async () => {
      const outcomes = await outcomesOf(client, cases.keys())
      const failures: string[] = []
      for (const [name, one] of cases) {
        try {
          check(name, client, one, outcomes.get(name) as Outcome)
        } catch (error) {
          failures.push(`${name}: ${(error as Error).message.split('\n')[0]}`)
        }
      }
      assert.deepEqual(failures, [])
    })

    it(`yields no complete response to a client of ${client} when it is cut at any byte`, async () => {
      const cuts = [...scripts.keys()].filter((path) => /^\/(?:end|reset)\//.test(path)).map((path) => path.slice(1))
      for (const [name, outcome] of await outcomesOf(client, cuts)) {
        assert.ok(!outcome.complete || outcome.status === 502, `${name}: ${show(outcome)}`)
      }
    })
  }

  it('does not end the session of an HTTP/2 client', () => assert.equal(session.destroyed || session.closed, false))

  it('leaks no memory, descriptors or requests', async () => {
    const before = await idle()
    for (const client of Object.keys(clients) as Client[]) await outcomesOf(client, cases.keys())
    const now = await idle({ open: before.open + 5, heap: before.heap + (8 << 20) })
    assert.equal(now.internalErrors, 0, 'no internal errors')
  })
})
