import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { FleetError } from '../base/errors.ts'

/** How long a client that is still sending gets to read an answer before its connection is closed, in milliseconds. */
const lingerMs = 2000
/** RFC 9113 section 7. */
const noError = 0

/** Takes a short body in whole. `done` is never called when the client goes away before. */
export function whole(request: IncomingMessage, done: (body: Buffer) => void): void {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => done(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)))
}

/**
 * A long body as it comes in. Nothing is read before the first piece is asked for, which is after a connection to a
 * target stands, so until then the request can still go to another one. The request itself stays intact when the
 * reader stops early.
 *
 * @param limit in bytes, 0 for none
 * @param onStart called when the first piece is asked for
 * @throws FLEET_ERR_BODY_TOO_LARGE, FLEET_ERR_REQUEST_INVALID when the client went away
 */
export async function* streamed(request: IncomingMessage, limit: number, onStart: () => void): AsyncGenerator<Buffer> {
  onStart()
  let length = 0
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      length += chunk.length
      if (limit > 0 && length > limit) throw new FleetError('FLEET_ERR_BODY_TOO_LARGE', `at most ${limit} bytes`)
      yield chunk
    }
  } catch (error) {
    if (error instanceof FleetError) throw error
    throw new FleetError('FLEET_ERR_REQUEST_INVALID', 'its body ended early', { cause: error })
  }
}

/**
 * Calls `late` when a body is not complete in time. For HTTP/2 only: on HTTP/1.1 Node has this deadline itself.
 *
 * @param timeoutMs 0 for none
 */
export function limitBodyTime(request: IncomingMessage, timeoutMs: number, late: () => void): void {
  if (timeoutMs === 0) return
  const timer = setTimeout(late, timeoutMs)
  const clear = (): void => clearTimeout(timer)
  request.once('end', clear).once('close', clear)
}

/**
 * Ends an answer. When the client is still sending, closing now would reset the connection, and the client would lose
 * the answer it has not read yet: so the rest is read and thrown away first, for a while (RFC 9112 section 9.6).
 *
 * @param last the end of its body; a string is one of bytes (Latin-1)
 */
export function endAnswer(request: IncomingMessage, response: ServerResponse, last?: Buffer | string): void {
  if ('stream' in request) {
    endStream(request.stream as ServerHttp2Stream, response, last)
    return
  }
  // One that was not told to continue sends nothing.
  const waits = request.headers.expect !== undefined && !request.readableDidRead
  if (request.complete || request.destroyed || waits) {
    response.end(last, 'latin1')
    return
  }
  if (last !== undefined) response.write(last, 'latin1')
  const end = (): void => {
    clearTimeout(timer)
    response.end()
  }
  const timer = setTimeout(end, lingerMs)
  request.once('end', end).once('close', end).resume()
}

/** A client that is still sending is told to stop, or the stream would stay open (RFC 9113 section 8.1). */
function endStream(stream: ServerHttp2Stream, response: ServerResponse, last?: Buffer | string): void {
  response.end(last, 'latin1')
  if (!stream.endAfterHeaders && !stream.readableEnded) stream.once('finish', () => stream.close(noError))
}
