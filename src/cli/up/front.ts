import type { Program, ProvideOptions } from './install.ts'
import type { Server } from './server.ts'

/** A load balancer (front) and its instances, all on 127.0.0.1. */
export interface FrontPlan {
  port: number
  /** Ports of the instances. */
  instances: readonly number[]
  /** Their ports for operators. @default the same */
  operators?: readonly number[]
  /** Ports of their agent checks (FLEET_AGENT_PORT), for a front that uses them. */
  agents?: readonly number[]
  /** The operators' token of the instances. */
  adminToken?: string
  /** How long a draining instance keeps listening, ms. */
  drainDelayMs: number
}

export interface FrontKind {
  readonly title: string
  /** The program to install; absent for Node. */
  readonly program?: Program
  /** Whether instances get a port for agent checks. */
  readonly usesAgents?: boolean
  /** @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
  start(plan: FrontPlan, options?: ProvideOptions): Promise<Server>
}
