import type { ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/** The part of the `ws` server that is used here. @fastify/websocket decorates the app with one. */
interface WebSocketServer {
  readonly clients: Iterable<{ close(code: number, reason: string): void; terminate(): void }>
}

/** 1012, "service restart": the client should reconnect (IANA WebSocket close code registry). */
const serviceRestart = 1012
/** Time a client has to respond to the close frame before its socket is destroyed, ms. */
const closeHandshakeMs = 1_000

/** Closes all WebSockets, evenly spread over `windowMs` so that the clients do not reconnect all at once. */
export async function evictWebSockets(
  scopes: Iterable<FastifyInstance>,
  windowMs: number,
  signal: AbortSignal,
): Promise<void> {
  // Child scopes inherit the server of their parent.
  const servers = new Set([...scopes].map((scope) => (scope as { websocketServer?: WebSocketServer }).websocketServer))
  const clients = [...servers].flatMap((server) => [...(server?.clients ?? [])])
  for (const client of clients) {
    client.close(serviceRestart, 'service restart')
    setTimeout(() => client.terminate(), closeHandshakeMs).unref()
    await delay(windowMs / clients.length, undefined, { signal }).catch(() => undefined)
  }
}

/** Whether a response is a stream of server-sent events that has started. */
export function isEventStream(response: ServerResponse): boolean {
  if (!response.headersSent || response.writableEnded) return false
  const type = response.getHeader('content-type')
  // Headers passed to `writeHead` cannot be read back; the request's `Accept` of an EventSource can.
  return String(type ?? response.req.headers.accept ?? '').startsWith('text/event-stream')
}

const sources = new WeakMap<ServerResponse, NodeJS.ReadableStream>()

/** Remembers the stream that is piped into a response, so that it can be unpiped before the last event. */
export function rememberSource(response: ServerResponse): void {
  response.once('pipe', (source: NodeJS.ReadableStream) => sources.set(response, source))
}

/** Sends a last event, `shutdown`, and ends the stream. EventSource reconnects by itself. */
export function endStream(response: ServerResponse): void {
  const source = sources.get(response)
  source?.unpipe(response)
  response.end('event: shutdown\ndata: {"reason":"service restart"}\n\n')
  if (source && 'destroy' in source && typeof source.destroy === 'function') source.destroy()
}
