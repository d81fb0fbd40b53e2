import type { Server } from 'node:http'
import type { Http2SecureServer } from 'node:http2'
import type { AddressInfo } from 'node:net'
import type { Balancer } from '../balancer/balancer.ts'
import type { Target } from '../balancer/target.ts'
import type { ListenOptions } from '../listen.ts'
import type { ProxyPool } from './pools.ts'

export interface ReverseProxy {
  /**
   * Resolves with the URL once every target has been probed and the proxy accepts connections.
   *
   * @throws FLEET_ERR_PORT_TAKEN
   */
  listen(options?: ListenOptions): Promise<string>
  /** Accepts no more connections, waits for in-flight requests, and cuts them at the deadline (`shutdownTimeoutMs`). */
  close(): Promise<void>
  /** The proxy's own metrics, in Prometheus' text format. */
  metrics(): string
  /** URL of the listener for operators; undefined before it listens and without the option `admin`. */
  readonly adminUrl: string | undefined
  /** Null while the proxy does not listen. */
  readonly address: AddressInfo | null
  /** The targets of all pools. */
  readonly targets: readonly Target[]
  /** By name; `default` is the first. */
  readonly pools: ReadonlyMap<string, ProxyPool>
  /** The balancer of the pool `default`. */
  readonly balancer: Balancer
  readonly server: Server | Http2SecureServer
}
