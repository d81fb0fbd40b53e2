import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'undici'

export interface Load {
  /** Requests answered as they should be. */
  readonly passed: number
  /** Each failure in words. */
  readonly failures: readonly string[]
  /** When each of those was sent, in ms since 1970. */
  readonly failedBegan: readonly number[]
  /** How many requests each instance has answered. */
  readonly byInstance: ReadonlyMap<string, number>
  stop(): Promise<void>
}

export interface LoadOptions {
  /** Clients, each with one kept connection and one request at a time. @default 6 */
  clients?: number
  /** What is asked in turn. @default GET / */
  requests?: readonly { method: 'GET' | 'POST'; path: string; body?: object }[]
  headers?: Record<string, string>
}

/** Steady requests until it is stopped: an answer that is not 2xx, or none, is a failure. */
export function startLoad(url: string, options: LoadOptions = {}): Load {
  const { clients = 6, requests = [{ method: 'GET', path: '/' }] as const, headers = {} } = options
  const failures: string[] = []
  const failedBegan: number[] = []
  const byInstance = new Map<string, number>()
  let passed = 0
  let running = true
  const runs = Array.from({ length: clients }, async (_, offset) => {
    const client = new Client(url)
    for (let turn = offset; running; turn++) {
      const { method, path, body } = requests[turn % requests.length] as (typeof requests)[number] & { body?: object }
      const began = Date.now()
      const fail = (what: string): void => {
        failures.push(`${method} ${path}: ${what}`)
        failedBegan.push(began)
      }
      try {
        const sent = body && JSON.stringify(body)
        const answer = await client.request({
          method,
          path,
          headers: { ...headers, ...(sent && { 'content-type': 'application/json' }) },
          body: sent,
        })
        const text = await answer.body.text()
        if (answer.statusCode >= 200 && answer.statusCode < 300) {
          passed++
          const instance = String(answer.headers['x-instance-id'])
          byInstance.set(instance, (byInstance.get(instance) ?? 0) + 1)
        } else {
          fail(`${answer.statusCode} ${text.slice(0, 200)}`)
        }
      } catch (error) {
        fail(String(error))
      }
      await sleep(4)
    }
    await client.close()
  })
  return {
    get passed() {
      return passed
    },
    failures,
    failedBegan,
    byInstance,
    stop: async () => {
      running = false
      await Promise.all(runs)
    },
  }
}
