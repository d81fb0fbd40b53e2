import type { IncomingHttpHeaders } from 'node:http'
import type { Client } from 'undici'
import { undici } from '../base/internals/undici.ts'
import { usageError } from './args.ts'

export interface TargetOptions {
  /** How long one request may take, 1 to 600,000 ms. @default 10000 */
  timeoutMs?: number
  /** Accept self-signed certificates. @default false */
  insecure?: boolean
}

export interface TargetRequest {
  method?: 'GET' | 'POST'
  headers?: Record<string, string>
  /** Sent as JSON. */
  body?: object
}

/** The response; after a transport error `status` is 0 and `error` is set. */
export interface TargetResponse {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  /** The body, when it is JSON. */
  readonly json?: unknown
  /** From the header `X-Instance-Id`, else from the body. */
  readonly instanceId?: string
  /** `name=value` of each `Set-Cookie` header. */
  readonly cookies: readonly string[]
  readonly ms: number
  /** Code of the transport error, e.g. `ECONNRESET`. */
  readonly error?: string
}

/** One connection to a target, kept alive between requests. */
export interface Connection {
  request(path: string, request?: TargetRequest): Promise<TargetResponse>
  close(): Promise<void>
}

/** Bytes. */
const maxResponseBytes = 1_048_576

/** HTTP client for a front or an instance. Transport errors do not reject: the checks count them. */
export class Target {
  readonly url: string
  readonly #origin: string
  readonly #prefix: string
  readonly #options: Required<TargetOptions>

  /** @throws FLEET_ERR_USAGE when `url` is not an http or https URL */
  constructor(url: string, options: TargetOptions = {}) {
    const parsed = URL.parse(url)
    if (!parsed || !['http:', 'https:'].includes(parsed.protocol)) {
      throw usageError(`${JSON.stringify(url)} is not a URL; write e.g. http://127.0.0.1:8080`)
    }
    this.#origin = parsed.origin
    this.#prefix = parsed.pathname.replace(/\/+$/, '')
    this.url = this.#origin + this.#prefix
    this.#options = { timeoutMs: options.timeoutMs ?? 10_000, insecure: options.insecure ?? false }
  }

  connect(): Connection {
    const { timeoutMs, insecure } = this.#options
    const client = new (undici().Client)(this.#origin, {
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      maxResponseSize: maxResponseBytes,
      connect: { timeout: timeoutMs, rejectUnauthorized: !insecure },
    })
    return {
      request: (path, request) => send(client, this.#prefix + path, request, timeoutMs),
      close: () => client.destroy(),
    }
  }

  /** Sends over a new connection, as a new client would: a front may bind a connection to one instance. */
  async request(path: string, request?: TargetRequest): Promise<TargetResponse> {
    const connection = this.connect()
    try {
      return await connection.request(path, request)
    } finally {
      await connection.close()
    }
  }
}

async function send(
  client: Client,
  path: string,
  request: TargetRequest = {},
  timeoutMs: number,
): Promise<TargetResponse> {
  const begin = performance.now()
  try {
    const { statusCode, headers, body } = await client.request({
      path,
      method: request.method ?? 'GET',
      headers: { accept: '*/*', ...(request.body && { 'content-type': 'application/json' }), ...request.headers },
      body: request.body && JSON.stringify(request.body),
      signal: AbortSignal.timeout(timeoutMs),
    })
    const text = await body.text()
    const json = parseJson(text)
    return {
      status: statusCode,
      headers,
      text,
      json,
      instanceId: headerText(headers['x-instance-id']) ?? instanceIdOf(json),
      cookies: [headers['set-cookie'] ?? []].flat().map((cookie) => cookie.split(';', 1)[0] ?? ''),
      ms: performance.now() - begin,
    }
  } catch (error) {
    // The code of a `TimeoutError` is a number.
    const { code, name } = error as { code?: unknown; name: string }
    const reason = typeof code === 'string' ? code : name
    return { status: 0, headers: {}, text: '', cookies: [], ms: performance.now() - begin, error: reason }
  }
}

/** Runs `task` `count` times, at most `concurrency` at once. */
export async function repeat<T>(count: number, concurrency: number, task: (i: number) => Promise<T>): Promise<T[]> {
  const results = new Array<T>(count)
  let next = 0
  const worker = async (): Promise<void> => {
    for (let i = next++; i < count; i = next++) results[i] = await task(i)
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, worker))
  return results
}

export const headerText = (header: string | string[] | undefined): string | undefined =>
  Array.isArray(header) ? header[0] : header

/** The own property `key` of a value of unknown type. */
export function member(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
  return (value as Record<string, unknown>)[key]
}

function instanceIdOf(json: unknown): string | undefined {
  const id = member(json, 'instanceId')
  return typeof id === 'string' ? id : undefined
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
