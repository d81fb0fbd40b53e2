import type { Dispatcher } from 'undici'
import { FleetError } from '../../base/errors.ts'

export interface RetryOptions {
  /** How often one request is sent at most, the first time included; where nobody accepted it, it was not sent. @default 3 */
  attempts: number
  /** Answers to a safe request that are worth another target. @default [502, 503] */
  statuses: readonly number[]
  /**
   * Also repeat a safe request that a target answers with another 5xx, when its answer before was one too (or it is back on
   * trial) and the other targets fail clearly less. The first such answer is passed on, because the request may be the
   * cause. @default true
   */
  suspects: boolean
  /**
   * Also repeat a request of any method that was sent and has an `Idempotency-Key`. Only for upstreams that honour the
   * key; everything else that changes something is sent once. @default false
   */
  idempotencyKey: boolean
  /** Retries per request, 0 to 1, on average. @default 0.2 */
  budget: number
  /** Retries per second that are always allowed. @default 10 */
  minPerSecond: number
  /**
   * A safe request that has no answer after this time is also sent to a second target, within the budget, and the
   * first answer counts. In milliseconds; 0: never. Source: Dean, Barroso, "The Tail at Scale", CACM 2013. @default 0
   */
  hedgeMs: number
}

/** RFC 9110 section 9.2.1, and QUERY of draft-ietf-httpbis-safe-method-w-body. TRACE is left out: nobody forwards it. */
const safeMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'QUERY'])

export const isSafe = (method: string): boolean => safeMethods.has(method)

/** Nothing can happen twice by sending it again, and it can be sent again. */
export function isRepeatable({ method, body, headers }: Dispatcher.DispatchOptions, idempotencyKey: boolean): boolean {
  const replayable = body == null || body instanceof Uint8Array || typeof body === 'string'
  return replayable && (isSafe(method) || (idempotencyKey && hasHeader(headers, 'idempotency-key')))
}

/**
 * How long a request waits before it is sent for the `n`th time, in milliseconds. The second time comes at once; a third
 * one says that targets are dying in a row, and gives the one that is next a moment to be dead.
 */
export const pauseMs = (n: number): number => (n < 3 ? 0 : 40 * 2 ** (n - 3) * (0.5 + Math.random()))

const clientFaults: ReadonlySet<unknown> = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
])
/** The request itself cannot be sent, or its body stopped coming: no target is to blame. */
export const isOurFault = (error: Error): boolean => error instanceof FleetError || clientFaults.has(codeOf(error))

const breaks: ReadonlySet<unknown> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE', 'ECONNABORTED'])
/** The connection broke, as it does when a process dies; not what a slow or broken server does. */
export const isBreak = (error: Error): boolean => breaks.has(codeOf(error))

const codeOf = (error: Error): unknown => (error as { code?: unknown }).code

/** "Refuse this rather than work on it while you drain." */
export const withRetryHeader = (options: Dispatcher.DispatchOptions): Dispatcher.DispatchOptions => ({
  ...options,
  headers: flatHeaders(options.headers).concat('x-fleet-retry', '1'),
})

const hasHeader = (headers: Dispatcher.DispatchOptions['headers'], name: string): boolean =>
  flatHeaders(headers).some((text, i) => i % 2 === 0 && text.toLowerCase() === name)

/** undici takes headers in three forms; this is the one that keeps duplicates. */
function flatHeaders(headers: Dispatcher.DispatchOptions['headers']): string[] {
  if (!headers) return []
  if (Array.isArray(headers)) return headers as string[]
  const entries = Symbol.iterator in headers ? [...headers] : Object.entries(headers)
  return (entries as [string, string | string[] | undefined][]).flatMap(([name, value]) =>
    [value ?? []].flat().flatMap((each) => [name, String(each)]),
  )
}
