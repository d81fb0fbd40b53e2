import { createRequire } from 'node:module'

const load = createRequire(import.meta.url)
let loaded: typeof import('undici') | undefined

/** undici, loaded with the first balancer: an app that only serves would keep its 28 MiB for nothing. */
export const undici = (): typeof import('undici') => {
  loaded ??= load('undici') as typeof import('undici')
  return loaded
}
