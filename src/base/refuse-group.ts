import { FleetError } from './errors.ts'

/** The message of a worker that cannot run beside others to `fleet start`. */
export interface Refusal {
  readonly fleet: 'refused'
  readonly detail: string
}

/** Ends the boot of a worker whose state would be in memory, and tells `fleet start` the reason. */
export function refuseGroup(detail: string): never {
  const message: Refusal = { fleet: 'refused', detail }
  process.send?.(message)
  throw new FleetError('FLEET_ERR_MEMORY_IN_WORKERS', detail)
}
