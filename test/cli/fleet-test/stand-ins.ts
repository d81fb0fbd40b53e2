import type { TestContext } from 'node:test'
import type { CheckContext } from '../../../src/cli/smoke/context.ts'
import { type CheckResult, type CheckResults, resultsOf } from '../../../src/cli/smoke/report.ts'
import type { Connection, Target, TargetRequest, TargetResponse } from '../../../src/cli/target.ts'
import type { Peer } from '../../../src/instance/identity.ts'

export const response = (given: Partial<TargetResponse> = {}): TargetResponse => ({
  ...{ status: 200, headers: {}, text: '', cookies: [], ms: 1 },
  ...given,
})

/** `count` responses of each instance, evenly mixed. */
export const from = (counts: Readonly<Record<string, number>>, given: Partial<TargetResponse> = {}): TargetResponse[] =>
  Object.entries(counts)
    .flatMap(([instanceId, count]) => Array.from({ length: count }, (_, i) => ({ instanceId, at: (i + 0.5) / count })))
    .sort((a, b) => a.at - b.at)
    .map(({ instanceId }) => response({ instanceId, ...given }))

export type Handler = (path: string, request: TargetRequest, connection: string) => Partial<TargetResponse>

/** Stands in for a front or an instance. */
export function target(handler: Handler, url = 'http://front'): Target {
  let connections = 0
  const connect = (): Connection => {
    const name = `connection ${++connections}`
    return {
      request: async (path, request = {}) => response(handler(path, request, name)),
      close: async () => undefined,
    }
  }
  const request: Target['request'] = (path, request) => connect().request(path, request)
  return { url, connect, request } as Target
}

/**
 * A clock that stands still except when the returned function is called, which moves it by `ms`. If each request calls it, a
 * machine that suspends this process looks like no pause of the fleet.
 */
export function requestClock(t: TestContext, ms: number): () => void {
  let now = 0
  t.mock.method(performance, 'now', () => now)
  return () => {
    now += ms
  }
}

/** Cycles through the instances `a`, `b`, … */
export function inTurn(count: number): () => string {
  let turn = 0
  return () => 'abcdefgh'[turn++ % count] ?? ''
}

export const context = (given: Partial<CheckContext> = {}): CheckContext => ({
  ...{ front: target(() => ({})), direct: [], sample: [], path: '/health' },
  ...given,
})

export const peer = (id: string, given: Partial<Peer> = {}): Peer =>
  ({ id, weight: 100, state: 'serving', ...given }) as Peer

/** Collects the results of a check as `status text` and `→ fix`. */
export function recorder(): { results: CheckResults; said: () => string[]; list: CheckResult[] } {
  const list: CheckResult[] = []
  const said = (): string[] =>
    list.flatMap(({ status, text, fix }) => [`${status} ${text}`, ...(fix === undefined ? [] : [`→ ${fix}`])])
  return { results: resultsOf('x', list), said, list }
}
