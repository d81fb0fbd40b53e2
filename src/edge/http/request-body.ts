import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { FleetError } from '../../base/errors.ts'
import { guard } from '../boundary.ts'

/** How long a client that is still sending gets to read an answer before its connection is closed, in milliseconds. */
const lingerMs = 2000
/** RFC 9113 section 7. */
const noError = 0

/**
 * Takes a short body in whole. `done` is never called when the client goes away before.
 *
 * @param fail called when `done` throws
 */
export function whole(request: IncomingMessage, done: (body: Buffer) => void, fail: (error: Error) => void): void {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  const end = (): void => done(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks))
  request.on('end', guard('a request body', end, fail))
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
 * Answers a request of which not everything came in time with 408, or cuts a response that has begun. For HTTP/2 only: on
 * HTTP/1.1 Node has this deadline itself. Without a body the stream also ends for a client that does not read.
 *
 * @param timeoutMs 0 for none
 * @param abort called afterwards, to end what is under way upstream
 */
export function limitBodyTime(
  request: IncomingMessage,
  response: ServerResponse,
  timeoutMs: number,
  abort: () => void,
): void {
  if (timeoutMs === 0) return
  const late = (): void => {
    const { stream } = request as IncomingMessage & { stream: ServerHttp2Stream }
    if (response.headersSent) response.destroy()
    else {
      response.writeHead(408, { 'cache-control': 'no-store' }).end()
      stopUpload(stream)
    }
    abort()
  }
  const timer = setTimeout(
    guard('a late request body', late, () => response.destroy()),
    timeoutMs,
  )
  const clear = (): void => clearTimeout(timer)
  request.once('end', clear).once('close', clear)
}

/**
 * Ends an answer. When the client is still sending, closing now would reset the connection, and the client would lose
 * the answer it has not read yet: so the rest is read and thrown away first, for a while (RFC 9112 section 9.6).
 *
 * @param last the end of its body; a string is one of bytes (Latin-1)
 */
export function endResponse(request: IncomingMessage, response: ServerResponse, last?: Buffer | string): void {
  if ('stream' in request) {
    response.end(last, 'latin1')
    stopUpload(request.stream as ServerHttp2Stream)
    return
  }
  // One that was not told to continue sends nothing.
  const waits = request.headers.expect !== undefined && !request.readableDidRead
  if (request.complete || request.destroyed || waits) {
    response.end(last, 'latin1')
    return
  }
  if (last !== undefined) response.write(last, 'latin1')
  const finish = guard(
    'the end of a response',
    () => {
      clearTimeout(timer)
      response.end()
    },
    () => response.destroy(),
  )
  const timer = setTimeout(finish, lingerMs)
  request.once('end', finish).once('close', finish).resume()
}

/** A client that is still sending is told to stop after the response, or the stream would stay open (RFC 9113 section 8.1). */
function stopUpload(stream: ServerHttp2Stream): void {
  if (stream.endAfterHeaders || stream.readableEnded) return
  if (stream.writableFinished) stream.close(noError)
  else stream.once('finish', () => stream.close(noError))
}
