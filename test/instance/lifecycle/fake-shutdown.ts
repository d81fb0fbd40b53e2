import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { FastifyInstance } from 'fastify'
import type { Connections, UnfinishedRequest } from '../../../src/instance/lifecycle/connections.ts'
import { Shutdown, type ShutdownHooks, type ShutdownTimes } from '../../../src/instance/lifecycle/shutdown.ts'
import { Lifecycle } from '../../../src/instance/lifecycle/state.ts'
import { mockTimers } from '../../helpers/clock.ts'

const realTurn = setImmediate
/** The deadline, unless a test sets another one. */
export const shutdownTimeoutMs = 10_000

/** A started event stream, as a response is seen by a shutdown. */
export const stream = () => ({
  headersSent: true,
  writableEnded: false,
  sent: '',
  getHeader: () => 'text/event-stream; charset=utf-8',
  end(text: string) {
    this.sent += text
    this.writableEnded = true
  },
})
type Stream = ReturnType<typeof stream>

/** A client that does not respond to a close frame. */
export const webSocket = () => ({
  closed: [] as unknown[],
  terminated: 0,
  close(code: number, reason: string) {
    this.closed.push([code, reason])
  },
  terminate() {
    this.terminated++
  },
})

/** A shutdown of an app whose connections and clock the test controls. */
export function shutDown(
  t: TestContext,
  given: {
    times?: Partial<ShutdownTimes>
    hooks?: Partial<ShutdownHooks>
    handover?: boolean
    starting?: boolean
    clients?: ReturnType<typeof webSocket>[]
    /** Time for which the instance has been draining. */
    drainedMs?: number
  } = {},
) {
  let now = 100
  t.mock.method(performance, 'now', () => now)
  mockTimers(t)
  const steps: string[] = []
  const log: unknown[][] = []
  const write = (level: string) => (fields: object, message: unknown) => void log.push([level, fields, message])
  const app = {
    log: { info: write('info'), warn: (message: string) => void log.push(['warn', message]), error: write('error') },
    websocketServer: { clients: given.clients ?? [] },
  }
  const connections = {
    open: 0,
    inFlight: 3,
    streams: [] as Stream[],
    requests: [] as UnfinishedRequest[],
    responses: () => connections.streams,
    unfinished: () => connections.requests,
    goAway: () => void steps.push('goAway'),
    stopListening: async () => void steps.push('stopListening'),
    sweep: (ms: number) => void steps.push(`sweep ${ms}`),
    destroy: () => void steps.push('destroy'),
  }
  const lifecycle = new Lifecycle((error) => assert.fail(String(error)))
  lifecycle.onState((state) => void steps.push(state))
  if (!given.starting) lifecycle.move('serving', ['starting'])
  if (given.drainedMs !== undefined) lifecycle.move('draining', ['serving'])
  now += given.drainedMs ?? 0
  steps.length = 0
  const close = async (): Promise<void> => void steps.push('close')
  const result: { code?: number } = {}
  const scopes = [app, Object.create(app)] as unknown as [FastifyInstance, FastifyInstance]
  const times = { shutdownTimeoutMs, drainDelayMs: 0, evictWindowMs: 0, ...given.times }
  const hooks = { close, closing: Promise.resolve(), drained: [], beforeListenerCloses: async () => {}, ...given.hooks }
  const shutdown = new Shutdown(scopes, connections as unknown as Connections, times, hooks)
  const turn = (): Promise<void> => new Promise((resolve) => realTurn(() => realTurn(resolve)))
  const pass = async (ms: number): Promise<void> => {
    for (let rest = ms; rest > 0; rest -= 10) {
      await turn()
      now += Math.min(10, rest)
      t.mock.timers.tick(Math.min(10, rest))
      await turn()
    }
  }
  const begin = async (): Promise<void> => {
    const run = shutdown.run(lifecycle, 'SIGTERM', given.handover ?? false)
    void run.then((code) => Object.assign(result, { code }))
    await pass(2)
  }
  return { steps, log, connections, lifecycle, result, begin, pass }
}
