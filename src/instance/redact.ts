import { classOf } from '../base/options.ts'

const secret = /secret|token|password|passphrase|credential|private|keys?$/i

/**
 * A copy that is safe to display. Values with the names of secrets are replaced, credentials are removed from URLs, and
 * functions and class instances are replaced by their kind.
 */
export function redact(value: unknown, name = ''): unknown {
  if (secret.test(name) && value !== undefined && value !== null && typeof value !== 'boolean') return '[redacted]'
  if (typeof value === 'string') return withoutCredentials(value)
  if (typeof value !== 'object' || value === null) return typeof value === 'function' ? '[function]' : value
  if (Array.isArray(value)) return value.map((entry) => redact(entry))
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== null && prototype !== Object.prototype) return `[${classOf(value)}]`
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, redact(entry, key)]))
}

function withoutCredentials(text: string): string {
  return text.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/@]*@/i, '$1[redacted]@')
}
