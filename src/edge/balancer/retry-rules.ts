import type { Dispatcher } from 'undici'
import { FleetError } from '../../base/errors.ts'
import { bool, int, list, number, type Resolved, type Shape } from '../../base/options.ts'

export const retryOptions = {
  /** Maximum number of times one request is sent, the first included. A refused connection does not count. */
  attempts: int(1, 100).default(3),
  /** Statuses after which a safe request is retried on another target. */
  statuses: (list(int(400, 599)) as Shape<readonly number[]>).default([502, 503]),
  /**
   * Also retry a safe request after any other 5xx, if the target's previous response was a 5xx too (or the target is on
   * trial) and the other targets fail clearly less often. The first such response is forwarded, because the request may
   * be the cause.
   */
  suspects: bool.default(true),
  /**
   * Also retry a request of any method that carries an `Idempotency-Key`. Only for upstreams that honour the key; other
   * unsafe requests are sent once.
   */
  idempotencyKey: bool.default(false),
  /** Retries per request, on average. */
  budget: number(0, 1).default(0.2),
  /** Retries per second that are allowed in any case. */
  minPerSecond: number(0, 1_000_000).default(10),
  /**
   * Hedging: a safe request without a response after this time is also sent to a second target, within the budget, and
   * the first response wins; 0: never. Source: Dean, Barroso, "The Tail at Scale", CACM 2013.
   */
  hedgeMs: int(0, 3_600_000, 'milliseconds').default(0),
}
export type RetryOptions = Resolved<typeof retryOptions>

/** RFC 9110 section 9.2.1, and QUERY of draft-ietf-httpbis-safe-method-w-body. TRACE is left out: proxies do not forward it. */
const safeMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'QUERY'])

export const isSafe = (method: string): boolean => safeMethods.has(method)

/** Whether sending the request again has no second effect, and its body can be sent again. */
export function isRepeatable({ method, body, headers }: Dispatcher.DispatchOptions, idempotencyKey: boolean): boolean {
  const replayable = body == null || body instanceof Uint8Array || typeof body === 'string'
  return replayable && (isSafe(method) || (idempotencyKey && hasHeader(headers, 'idempotency-key')))
}

/**
 * Delay in milliseconds before a request is sent for the `n`th time. The second attempt is immediate. A third one means
 * that targets are failing one after another; the delay lets the next one fail before the request reaches it.
 */
export const pauseMs = (n: number): number => (n < 3 ? 0 : 40 * 2 ** (n - 3) * (0.5 + Math.random()))

const clientFaults: ReadonlySet<unknown> = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
])
/** The request itself cannot be sent, or its body broke off: no target is at fault. */
export const isOurFault = (error: Error): boolean => error instanceof FleetError || clientFaults.has(codeOf(error))

const breaks: ReadonlySet<unknown> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE', 'ECONNABORTED'])
/** The connection broke, as it does when a process dies, in contrast to a timeout or an invalid response. */
export const isBreak = (error: Error): boolean => breaks.has(codeOf(error))

const codeOf = (error: Error): unknown => (error as { code?: unknown }).code

/** Adds the header that asks a draining instance to reject the request instead of serving it. */
export const withRetryHeader = (options: Dispatcher.DispatchOptions): Dispatcher.DispatchOptions => ({
  ...options,
  headers: flatHeaders(options.headers).concat('x-fleet-retry', '1'),
})

const hasHeader = (headers: Dispatcher.DispatchOptions['headers'], name: string): boolean =>
  flatHeaders(headers).some((text, i) => i % 2 === 0 && text.toLowerCase() === name)

/** undici accepts headers in three forms; this one keeps duplicates. */
function flatHeaders(headers: Dispatcher.DispatchOptions['headers']): string[] {
  if (!headers) return []
  if (Array.isArray(headers)) return headers as string[]
  const entries = Symbol.iterator in headers ? [...headers] : Object.entries(headers)
  return (entries as [string, string | string[] | undefined][]).flatMap(([name, value]) =>
    [value ?? []].flat().flatMap((each) => [name, String(each)]),
  )
}
