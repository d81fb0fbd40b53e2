import { createRequire } from 'node:module'

const load = createRequire(import.meta.url)

/** prom-client, loaded on first use, because an app without metrics does not need its 76 modules. */
export const promClient = (): typeof import('prom-client') => load('prom-client')
