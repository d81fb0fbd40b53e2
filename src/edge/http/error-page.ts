import { FleetError } from '../../base/errors.ts'
import { http } from '../../base/internals/node-http.ts'
import { isOurFault } from '../balancer/retry-rules.ts'

export interface ErrorPage {
  readonly status: number
  /** Flat list: name, value, name, … */
  readonly headers: readonly string[]
  readonly body: string
}

/**
 * The body of the proxy's own error responses: JSON in Fastify's format, or a small page for browsers.
 *
 * @param accept the request's `Accept`
 */
export function errorPage(error: FleetError, accept: string | undefined): ErrorPage {
  const status = error.statusCode
  const title = http.STATUS_CODES[status] ?? 'Error'
  const html = wantsHtml(accept)
  const message = escapeHtml(error.message)
  const body = html
    ? `<!doctype html><html lang="en"><meta charset="utf-8"><title>${status} ${title}</title>` +
      `<h1>${status} ${title}</h1><p>${message}</p><p><code>${error.code}</code></p></html>\n`
    : JSON.stringify({ statusCode: status, code: error.code, error: title, message: error.message })
  const headers = [
    'content-type',
    html ? 'text/html; charset=utf-8' : 'application/json; charset=utf-8',
    'content-length',
    String(Buffer.byteLength(body)),
    'cache-control',
    'no-store',
  ]
  for (const [name, value] of Object.entries(error.headers ?? {})) headers.push(name, value)
  return { status, headers, body }
}

/** True when the client accepts HTML with a higher quality value than JSON. */
export function wantsHtml(accept: string | undefined): boolean {
  if (!accept?.includes('text/html')) return false
  const quality = (type: string): number => {
    const entry = accept.split(',').find((part) => part.trim().startsWith(type))
    return entry === undefined ? 0 : Number(/;\s*q=([\d.]+)/.exec(entry)?.[1] ?? 1)
  }
  return quality('text/html') > quality('application/json')
}

const escapeHtml = (text: string): string => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)

/** An upstream error in the form that a client may see: without addresses and without low-level messages. */
export function asFleetError(error: Error): FleetError {
  if (error instanceof FleetError) return error
  const code = String((error as { code?: unknown }).code)
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT' || code === 'UND_ERR_CONNECT_TIMEOUT') {
    return new FleetError('FLEET_ERR_UPSTREAM_TIMEOUT', undefined, { cause: error })
  }
  return new FleetError(isOurFault(error) ? 'FLEET_ERR_REQUEST_INVALID' : 'FLEET_ERR_UPSTREAM_FAILED', undefined, {
    cause: error,
  })
}
