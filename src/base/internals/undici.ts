// Touches: `Symbol.for('undici.globalDispatcher.1')`, where the `fetch` of Node.js up to 24 keeps its dispatcher.
// Seen in: undici 8.12; Node.js 22 and 24.
// Worth: needed for correctness. undici 8 puts its own dispatcher there as it loads, which changes the app's own `fetch`: on
// Node.js 22 a request with a `content-length` fails, and a proxy that NODE_USE_ENV_PROXY set up is lost.
// Fallback: none is needed. A version of undici that leaves the symbol alone, or of Node.js that ignores it, loses nothing.
import { createRequire } from 'node:module'

const load = createRequire(import.meta.url)
let loaded: typeof import('undici') | undefined

/**
 * undici, loaded on first use: its 28 MiB would be wasted in an app that only serves. The dispatcher of the global `fetch`
 * stays as it is.
 */
export function undici(): typeof import('undici') {
  if (loaded) return loaded
  const globals = globalThis as Record<symbol, unknown>
  const key = Symbol.for('undici.globalDispatcher.1')
  const before = globals[key]
  loaded = load('undici') as typeof import('undici')
  // Node.js sets its own dispatcher when it finds none.
  if (globals[key] !== before) globals[key] = before
  return loaded
}
