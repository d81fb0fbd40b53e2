import type { ServerResponse } from 'node:http'
import { FleetError } from '../../base/errors.ts'
import { headerText } from '../../base/internals/header-text.ts'
import { http } from '../../base/internals/node-http.ts'

/** How Node keeps a head that has not been written yet, which it does not document. */
interface Head {
  _header?: unknown
  _hasBody?: unknown
}

/**
 * The answer to a request that is refused, put together once: a refusal must cost next to nothing, or refusing is what
 * the process is busy with.
 *
 * @param retryAfter in seconds
 */
export function refusal(instanceId: string, retryAfter: number): (response: ServerResponse) => void {
  const { statusCode, code, message } = new FleetError('FLEET_ERR_OVERLOADED')
  const body = JSON.stringify({ statusCode, code, message })
  const known = {
    'content-type': 'application/json; charset=utf-8',
    'cache-control': 'no-store',
    'retry-after': String(retryAfter),
    'x-instance-id': instanceId,
  }
  const headers = { ...known, 'content-length': String(Buffer.byteLength(body)) }
  const asText = headerText(known)
  return (response) => {
    asText(response)
    response.writeHead(statusCode, headers)
    const head = response as Head
    const plain = response.end === http.OutgoingMessage.prototype.end
    if (!plain || typeof head._header !== 'string' || head._hasBody !== true) {
      response.end(body)
      return
    }
    // Head and body as one string: given to `end`, the body would be held back, and both be written as a list.
    head._header += body
    response.end()
  }
}
