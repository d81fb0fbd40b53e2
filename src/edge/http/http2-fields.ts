import { dictionary } from '../../base/dictionary.ts'

/** List fields that are sent to HTTP/2 clients as one line: omitting a coding or a language would change the meaning. */
const joined: ReadonlySet<string> = new Set(['content-encoding', 'content-language'])

/** Fields that Node sends once per HTTP/2 message. The first of several lines is used, as in Node's own clients. */
const single: ReadonlySet<string> = new Set([
  ...joined,
  'access-control-allow-credentials',
  'access-control-max-age',
  'access-control-request-method',
  'age',
  'authorization',
  'content-length',
  'content-location',
  'content-md5',
  'content-range',
  'content-type',
  'date',
  'dnt',
  'etag',
  'expires',
  'from',
  'host',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'last-modified',
  'location',
  'max-forwards',
  'proxy-authorization',
  'range',
  'referer',
  'retry-after',
  'tk',
  'upgrade-insecure-requests',
  'user-agent',
  'x-content-type-options',
])

/** Whether Node can send a final response with this status over HTTP/2. */
export const isHttp2Status = (status: number): boolean => status >= 200 && status <= 599

/** Headers or trailers in the form that Node's HTTP/2 takes. @param flat list of lower-case names, each followed by its value */
export function http2Fields(flat: readonly string[]): Record<string, string | string[]> {
  const fields = dictionary<string | string[]>()
  for (let i = 0; i < flat.length; i += 2) {
    const name = flat[i] as string
    const value = flat[i + 1] as string
    const previous = fields[name]
    if (previous === undefined) fields[name] = value
    else if (joined.has(name)) fields[name] = `${previous}, ${value}`
    else if (single.has(name)) continue
    else if (typeof previous === 'string') fields[name] = [previous, value]
    else previous.push(value)
  }
  return fields
}
