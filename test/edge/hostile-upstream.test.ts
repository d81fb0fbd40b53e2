import assert from 'node:assert/strict'
import { request } from 'node:http'
import { describe, it } from 'node:test'
import { http2, http10, http11, http11Streamed, type Outcome, outcomeOf } from './http/hostile/clients.ts'
import { withDeadline } from './http/hostile/deadline.ts'
import { sendAll, startHarness } from './http/hostile/harness.ts'
import { type Case, type Client, cases } from './http/hostile/scripts.ts'
import { type Script, thenEnd, thenReset } from './http/hostile/upstream.ts'

const head = 'HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n'
const response = `${head}2\r\nok\r\n0\r\nx: 1\r\n\r\n`
const cuts = [...response].map((_, at) => at)
const early = 'HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nok'

const scripts = new Map<string, Script>([...cases].map(([name, { script }]) => [`/${name}`, script]))
for (const at of cuts) {
  scripts.set(`/end/${at}`, thenEnd(response.slice(0, at)))
  scripts.set(`/reset/${at}`, thenReset(response.slice(0, at)))
}
scripts.set('/early', early)
scripts.set('/early end', thenEnd(early))
scripts.set('/early reset', thenReset(early))

const { plain, session, idle } = await startHarness(scripts)

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

function check(client: Client, { expected, text, trailers }: Case, outcome: Outcome): void {
  const wanted = typeof expected === 'object' ? (expected[client] ?? expected.others) : expected
  if (wanted === 'any') return
  assert.equal(outcome.complete, wanted !== 'broken', show(outcome))
  if (wanted === 'broken') return
  assert.equal(outcome.status, wanted, show(outcome))
  if (text !== undefined) assert.equal(outcome.text, text, show(outcome))
  if (trailers && client !== 'HTTP/1.0') {
    assert.deepEqual(Object.fromEntries(Object.entries(outcome.trailers)), trailers)
  }
}

const all = new Map<Client, Map<string, Outcome>>()
for (const client of Object.keys(clients) as Client[]) all.set(client, await outcomesOf(client, cases.keys()))

describe('a hostile upstream', () => {
  it('has at least 60 scripts', () => assert.ok(cases.size >= 60))

  for (const [client, outcomes] of all) {
    describe(`to a client of ${client}`, () => {
      for (const [name, one] of cases) {
        it(`handles ${name}`, () => check(client, one, outcomes.get(name) as Outcome))
      }

      it('yields no complete response when it is cut at any byte', async () => {
        const cut = await outcomesOf(
          client,
          [...scripts.keys()].flatMap((path) => /^\/((?:end|reset)\/.*)/.exec(path)?.[1] ?? []),
        )
        for (const [name, outcome] of cut) {
          const at = Number(name.split('/')[1])
          check(client, { script: '', expected: at < head.length ? 502 : 'broken' }, outcome)
        }
        assert.equal(cut.size, 2 * cuts.length)
      })
    })
  }

  it('ends a request whose response comes before its body', async () => {
    for (const path of ['/early', '/early%20end', '/early%20reset']) {
      const { port } = new URL(plain)
      const sent = request({ host: '127.0.0.1', port, path, method: 'POST', agent: false })
      const outcome = withDeadline(path, outcomeOf(sent))
      const piece = Buffer.alloc(65_536)
      const more = (): void => {
        while (!sent.destroyed && sent.write(piece));
      }
      sent.on('drain', more)
      more()
      // The connection may be reset before the client can read the response.
      assert.ok([413, 502, 0].includes((await outcome).status), show(await outcome))
    }
  })

  it('does not end the session of an HTTP/2 client', () => assert.equal(session.destroyed || session.closed, false))

  it('leaks no memory, descriptors or requests in the proxy', async () => {
    const before = await idle()
    for (const client of Object.keys(clients) as Client[]) await outcomesOf(client, cases.keys())
    const now = await idle({ open: before.open + 5, heap: before.heap + (8 << 20) })
    assert.equal(now.internalErrors, 0, 'no internal errors')
  })
})
