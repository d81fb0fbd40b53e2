import type { Program, ProvideOptions } from '../install.ts'
import type { Server } from '../server.ts'

/** A front on 127.0.0.1 before instances on the same address. */
export interface FrontPlan {
  port: number
  /** Ports of the instances. */
  instances: readonly number[]
  /** How long a draining instance goes on listening, in milliseconds. */
  drainDelayMs: number
}

export interface FrontKind {
  readonly title: string
  /** What it runs, unless that is Node. */
  readonly program?: Program
  /** @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
  start(plan: FrontPlan, options?: ProvideOptions): Promise<Server>
}
