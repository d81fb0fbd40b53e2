const secret = /secret|token|password|passphrase|credential|private|keys?$/i

/**
 * A copy that may be shown: secrets by name are replaced, credentials are taken out of URLs, and what is not data
 * (clients, functions) is named by its kind.
 */
export function redact(value: unknown, name = ''): unknown {
  if (secret.test(name) && value !== undefined && value !== null && typeof value !== 'boolean') return '[redacted]'
  if (typeof value === 'string') return withoutCredentials(value)
  if (typeof value !== 'object' || value === null) return typeof value === 'function' ? '[function]' : value
  if (Array.isArray(value)) return value.map((entry) => redact(entry))
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== null && prototype !== Object.prototype) return `[${value.constructor?.name ?? 'object'}]`
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, redact(entry, key)]))
}

function withoutCredentials(text: string): string {
  return text.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/@]*@/i, '$1[redacted]@')
}
