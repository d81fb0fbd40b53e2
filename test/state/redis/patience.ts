export { within } from '../../helpers/within.ts'

/** For tests that are not about a Redis that is slow: one that waits for its turn on a busy machine is not away. */
export const patient = { connectTimeoutMs: 60_000, commandTimeoutMs: 20_000 } as const
/** Options of an app with such plugins. */
export const patientApp = { pluginTimeout: 60_000 } as const
