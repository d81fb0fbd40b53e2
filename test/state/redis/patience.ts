export { within } from '../../helpers/within.ts'

/** Timeouts for tests that are not about a slow Redis, so that a busy machine does not cause an outage. */
export const patient = { connectTimeoutMs: 60_000, commandTimeoutMs: 20_000 } as const
/** The same for a process. */
export const patientEnv = { REDIS_COMMAND_TIMEOUT: String(patient.commandTimeoutMs) } as const
/** Options of an app with these timeouts. */
export const patientApp = { pluginTimeout: 60_000 } as const
