import { createRequire } from 'node:module'

const load = createRequire(import.meta.url)
let loaded: typeof import('prom-client') | undefined

/** prom-client, loaded on first use, because an app without metrics does not need its 76 modules. */
export const promClient = (): typeof import('prom-client') => {
  loaded ??= load('prom-client') as typeof import('prom-client')
  return loaded
}
