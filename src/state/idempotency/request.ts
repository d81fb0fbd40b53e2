import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { FleetError } from '../../base/errors.ts'

/** A string of RFC 8941 (§3.3.3), as the draft requires, or the same without quotes, as most clients send it. */
const quoted = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"$/
const bare = /^[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{1,255}$/

/** @throws FLEET_ERR_IDEMPOTENCY_KEY_INVALID */
export function keyOf(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined
  if (typeof header === 'string') {
    const string = quoted.exec(header)?.[1]
    if (string !== undefined) return string.replace(/\\(.)/g, '$1')
    if (bare.test(header)) return header
  }
  throw new FleetError('FLEET_ERR_IDEMPOTENCY_KEY_INVALID', 'send one string of 1 to 255 visible ASCII characters')
}

const sha256 = (...parts: (string | Buffer)[]): string => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(`${part.length} `).update(part)
  return hash.digest('base64url')
}

/** Id of the record of a key in its scope. */
export function recordId(scope: string, key: string): string {
  return sha256(scope, key)
}

/**
 * Hash of method, URL and body. A stream, e.g. an upload, is not read: its length takes the place of the body.
 *
 * @throws FLEET_ERR_REQUEST_INVALID for a body that is nested too deeply to be serialized again
 */
export function fingerprint({ method, url, body, headers }: FastifyRequest): string {
  return sha256(method, url, bytes(body) ?? `stream of ${headers['content-length']}`)
}

function bytes(body: unknown): string | Buffer | undefined {
  if (typeof body === 'string' || Buffer.isBuffer(body)) return body
  if (body === undefined || body === null) return ''
  if (typeof (body as { pipe?: unknown }).pipe === 'function') return undefined
  try {
    return JSON.stringify(body)
  } catch (cause) {
    throw new FleetError('FLEET_ERR_REQUEST_INVALID', 'the body cannot be serialized as JSON', { cause })
  }
}
