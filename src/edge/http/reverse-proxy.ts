import type { Server } from 'node:http'
import type { Http2SecureServer } from 'node:http2'
import type { AddressInfo } from 'node:net'
import type { Balancer } from '../balancer/balancer.ts'
import type { Target } from '../balancer/target.ts'
import type { ListenOptions } from '../listen.ts'

export interface ReverseProxy {
  /**
   * Resolves with the URL when it accepts connections and the first probe of every target has answered.
   *
   * @throws FLEET_ERR_PORT_TAKEN
   */
  listen(options?: ListenOptions): Promise<string>
  /** Accepts no more connections, lets requests in flight end, and cuts them at the deadline. */
  close(): Promise<void>
  /** The proxy's own figures, as Prometheus reads them. */
  metrics(): string
  /** URL of the operators' address, once it listens; undefined without the option `admin`. */
  readonly adminUrl: string | undefined
  /** Null while it does not listen. */
  readonly address: AddressInfo | null
  readonly targets: readonly Target[]
  readonly balancer: Balancer
  readonly server: Server | Http2SecureServer
}
