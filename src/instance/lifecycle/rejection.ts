import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyFleet, FastifyRequest } from 'fastify'
import { within } from '../../base/within.ts'

/** Longest wait for a request to reject before the listener closes, ms. */
const waitMs = 250
/** Time in which a load balancer acts on a rejection, ms. What it has sent meanwhile arrives in this time. */
const settleMs = 50

/**
 * Decides which requests a draining instance rejects: those with `X-Fleet-Retry`, which the load balancer can send to another
 * one. Open-source nginx has no active health checks and learns of a drain this way, before any work is done. An instance that
 * knows of no other serves them until right before its listener closes, because nginx must not connect to a closing listener.
 */
export class Rejection {
  #isExpected = false
  #onRejected: (() => void) | undefined

  /** Whether to reject a request that arrives in a drain. */
  applies({ headers }: FastifyRequest, fleet: FastifyFleet): boolean {
    if (headers['x-fleet-retry'] === undefined) return false
    this.#isExpected = true
    if (!this.#onRejected) return anotherServes(fleet)
    this.#onRejected()
    return true
  }

  /**
   * Rejects from now on. Resolves when the load balancer has noticed and the listener may close: at once if none sent
   * `X-Fleet-Retry` in this drain, else in 300 ms at most.
   */
  async beforeClose(): Promise<void> {
    if (!this.#isExpected) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#onRejected = resolve
    if ((await within(waitMs, promise)) === 'fulfilled') await delay(settleMs)
  }
}

/** Whether the registry knows another instance that serves. Workers that share this port are the same target. */
function anotherServes(fleet: FastifyFleet): boolean {
  const { host, port } = fleet.instance
  return fleet.peers().some((peer) => peer.state === 'serving' && (peer.host !== host || peer.port !== port))
}
