import assert from 'node:assert/strict'
import { type ClientHttp2Session, connect } from 'node:http2'
import { after } from 'node:test'
import { forkApp } from '../../../helpers/fork-app.ts'
import { until } from '../../../helpers/until.ts'
import { type Script, startHostileUpstream } from './upstream.ts'

/** The state that the proxy's process reports. */
export interface State {
  /** Bytes in use after a garbage collection. */
  heap: number
  /** Open descriptors. */
  open: number
  inflight: number
  tunnels: number
  internalErrors: number
}

/** A hostile upstream behind a proxy in a separate process. */
export async function startHarness(
  scripts: ReadonlyMap<string, Script>,
  fixture: URL = new URL('proxy.fixture.ts', import.meta.url),
) {
  const upstream = await startHostileUpstream(scripts)
  const proxy = forkApp(fixture, {
    ipc: true,
    args: [upstream.url],
    execArgv: ['--expose-gc'],
  })
  const [plain, secure] = await until(() => proxy.messages[0] as [string, string] | undefined, { what: 'the proxy' })
  const session: ClientHttp2Session = connect(secure, { rejectUnauthorized: false, maxHeaderListPairs: 10_000 })
  session.on('error', () => {})
  after(() => session.destroy())

  const state = async (): Promise<State> => {
    const before = proxy.messages.length
    proxy.send('state')
    return until(() => proxy.messages[before] as State | undefined, { what: 'the state of the proxy' })
  }
  /** Waits until the proxy is idle and uses no more than `most`. */
  const idle = async (most: Partial<State> = {}): Promise<State> => {
    let last: State | undefined
    const settled = async (): Promise<boolean> => {
      last = await state()
      const { heap = Number.POSITIVE_INFINITY, open = Number.POSITIVE_INFINITY } = most
      return last.inflight === 0 && last.tunnels === 0 && last.open <= open && last.heap <= heap
    }
    await until(settled, { what: 'an idle proxy' }).catch((cause) =>
      assert.fail(`${cause.message}: ${JSON.stringify(last)}`),
    )
    return last as State
  }
  return { plain, secure, session, idle }
}

/** Concurrent requests; limited because the timeouts of the proxy are short. */
const atOnce = 24

/** Requests each of `names`. */
export async function sendAll<T>(names: Iterable<string>, send: (name: string) => Promise<T>): Promise<Map<string, T>> {
  const outcomes = new Map<string, T>()
  const remaining = names[Symbol.iterator]() as IterableIterator<string>
  const work = async (): Promise<void> => {
    for (const name of remaining) outcomes.set(name, await send(name))
  }
  await Promise.all(Array.from({ length: atOnce }, work))
  return outcomes
}
