import { createRequire } from 'node:module'

const load = createRequire(import.meta.url)
let loaded: typeof import('undici') | undefined

/** undici, loaded with the first balancer: its 28 MiB would be wasted in an app that only serves. */
export const undici = (): typeof import('undici') => {
  loaded ??= load('undici') as typeof import('undici')
  return loaded
}
