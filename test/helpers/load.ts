import { Client } from 'undici'
import { repeat } from './repeat.ts'

export interface Load {
  /** Number of requests with a 2xx response. */
  readonly passed: number
  /** A description of each failure. */
  readonly failures: readonly string[]
  /** When each failed request was sent, in ms since 1970. */
  readonly failedBegan: readonly number[]
  /** Number of 2xx responses by instance id. */
  readonly byInstance: ReadonlyMap<string, number>
  stop(): Promise<void>
}

export interface LoadOptions {
  /** Number of clients, each with one kept-alive connection and one request at a time. @default 6 */
  clients?: number
  /** The requests to send in turn. @default GET / */
  requests?: readonly { method: 'GET' | 'POST'; path: string; body?: object }[]
  headers?: Record<string, string>
  /** Pause of a client after a response, in ms. @default 12 */
  pauseMs?: number
}

/** Sends steady requests until it is stopped. A missing response or one that is not 2xx is a failure. */
export function startLoad(url: string, options: LoadOptions = {}): Load {
  const { clients = 6, requests = [{ method: 'GET', path: '/' }] as const, headers = {}, pauseMs } = options
  const failures: string[] = []
  const failedBegan: number[] = []
  const byInstance = new Map<string, number>()
  const connections = Array.from({ length: clients }, () => new Client(url))
  let passed = 0
  const stop = repeat(
    clients,
    async (number, i) => {
      const { method, path, body } = requests[(number + i) % requests.length] as (typeof requests)[number] & {
        body?: object
      }
      const began = Date.now()
      const fail = (what: string): void => {
        failures.push(`${method} ${path}: ${what}`)
        failedBegan.push(began)
      }
      try {
        const sent = body && JSON.stringify(body)
        const response = await (connections[number] as Client).request({
          method,
          path,
          headers: { ...headers, ...(sent && { 'content-type': 'application/json' }) },
          body: sent,
        })
        const text = await response.body.text()
        if (response.statusCode >= 200 && response.statusCode < 300) {
          passed++
          const instance = String(response.headers['x-instance-id'])
          byInstance.set(instance, (byInstance.get(instance) ?? 0) + 1)
        } else {
          fail(`${response.statusCode} ${text.slice(0, 200)}`)
        }
      } catch (error) {
        fail(String(error))
      }
    },
    pauseMs,
  )
  return {
    get passed() {
      return passed
    },
    failures,
    failedBegan,
    byInstance,
    stop: async () => {
      await stop()
      await Promise.all(connections.map((connection) => connection.close()))
    },
  }
}
