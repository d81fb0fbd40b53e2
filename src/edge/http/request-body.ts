import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import { FleetError } from '../../base/errors.ts'
import { guard } from '../boundary.ts'

/** Time for a client that is still sending to read its response before its connection is closed, in milliseconds. */
const lingerMs = 2000
/** RFC 9113 section 7. */
const noError = 0

/**
 * Reads a short body. `done` is never called when the client disconnects first.
 *
 * @param fail called when `done` throws
 */
export function readWhole(request: IncomingMessage, done: (body: Buffer) => void, fail: (error: Error) => void): void {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  const end = (): void => done(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks))
  request.on('end', guard('a request body', end, fail))
}

/**
 * Streams a long body. Reading starts once a connection to a target is established, so that the request can go to another
 * target until then. The request stays intact when the consumer stops early.
 *
 * @param limit in bytes, 0 for none
 * @param onStart called when reading starts
 * @throws FLEET_ERR_BODY_TOO_LARGE, FLEET_ERR_REQUEST_INVALID when the client disconnects
 */
export async function* streamBody(
  request: IncomingMessage,
  limit: number,
  onStart: () => void,
): AsyncGenerator<Buffer> {
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
 * Responds 408 to a request that is incomplete after `timeoutMs`, or cuts a response that has started. For HTTP/2 only,
 * because Node enforces this deadline on HTTP/1.1. The 408 has no body, so that the stream also ends for a client that does
 * not read.
 *
 * @param timeoutMs 0 for none
 * @param abort called afterwards, to end the upstream request
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
 * Ends a response. While the client is still sending, closing would reset the connection and the client could lose the
 * response. So the rest of the request is read and discarded first, for a limited time (RFC 9112 section 9.6).
 *
 * @param last the last part of the body; a string is Latin-1
 */
export function endResponse(request: IncomingMessage, response: ServerResponse, last?: Buffer | string): void {
  if ('stream' in request) {
    response.end(last, 'latin1')
    stopUpload(request.stream as ServerHttp2Stream)
    return
  }
  // A client that waits for 100 Continue sends nothing.
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

/** Asks a client that is still sending to stop after the response, or the stream would stay open (RFC 9113 section 8.1). */
function stopUpload(stream: ServerHttp2Stream): void {
  if (stream.endAfterHeaders || stream.readableEnded) return
  if (stream.writableFinished) stream.close(noError)
  else stream.once('finish', () => stream.close(noError))
}
