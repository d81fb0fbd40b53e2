import { createRequire } from 'node:module'

const load = createRequire(import.meta.url)
let loaded: typeof import('prom-client') | undefined

/** prom-client, loaded by the first who measures: 76 modules that an app without metrics has no use for. */
export const promClient = (): typeof import('prom-client') => {
  loaded ??= load('prom-client') as typeof import('prom-client')
  return loaded
}
