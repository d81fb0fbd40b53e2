import { dictionary } from '../../base/dictionary.ts'
import { FleetError } from '../../base/errors.ts'
import { responseHeaders } from '../http/headers.ts'
import { http2Fields } from '../http/http2-fields.ts'
import type { Headers } from './options.ts'
import { isField } from './request.ts'

/** Node closes the session of an HTTP/2 client when the head of one response is longer than 64 KiB, of which the app gets a part. */
const maxHttp2Head = 60_000

/** The headers of a response for functions of the app and for Fastify. */
export function fieldsOf(received: Parameters<typeof responseHeaders>[0], cookie: string | undefined): Headers {
  const flat = responseHeaders(received, 'trailer')
  if (cookie !== undefined) flat.push('set-cookie', cookie)
  // Fields that may be sent once have one value, others a list.
  return http2Fields(flat)
}

/**
 * The headers that are set.
 *
 * @throws FLEET_ERR_OPTION_INVALID for headers of the app that cannot be sent, FLEET_ERR_UPSTREAM_FAILED for too many
 */
export function sendable(headers: Headers, isHttp2: boolean): Headers {
  const checked: Headers = dictionary()
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name.toLowerCase() === 'transfer-encoding') continue
    if (!isField(name, value)) {
      const detail = `\`proxyPlugin.rewriteHeaders\` returned a header that cannot be sent: ${JSON.stringify(name)}`
      throw new FleetError('FLEET_ERR_OPTION_INVALID', detail)
    }
    checked[name] = value
  }
  if (isHttp2 && headLength(checked) > maxHttp2Head) {
    throw new FleetError('FLEET_ERR_UPSTREAM_FAILED', 'its headers are too long for HTTP/2')
  }
  return checked
}

/** As nghttp2 counts it, in bytes. */
const headLength = (headers: Headers): number =>
  Object.entries(headers)
    .flatMap(([name, value]) => [value ?? []].flat().map((each) => name.length + each.length + 12))
    .reduce((sum, length) => sum + length, 0)
