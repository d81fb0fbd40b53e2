import { createRequire } from 'node:module'

const load = createRequire(import.meta.url)

/** undici, loaded with the first balancer: its 28 MiB would be wasted in an app that only serves. */
export const undici = (): typeof import('undici') => load('undici') as typeof import('undici')
