import { addressOf, authorityOf, isTls } from '../../target-url.ts'
import type { WireOptions } from './connection.ts'
import { Http2Pool } from './http2-pool.ts'
import { WirePool } from './pool.ts'
import type { ServerTls } from './socket.ts'

/** A server to connect to. */
export interface Server {
  readonly url: URL
  /** Name that its certificate must be valid for, if it is not the host of the URL. */
  readonly serverName?: string
  readonly tls?: ServerTls
  readonly http2?: boolean
}

export type ConnectionPool = WirePool | Http2Pool

export function connectTo(
  { url, serverName, tls, http2 }: Server,
  bounds: Omit<WireOptions, 'serverName' | 'host' | 'port'>,
): ConnectionPool {
  const host = authorityOf(url).replace(/:\d+$|[[\]]/g, '')
  const options = { ...bounds, ...addressOf(url), tls, serverName: isTls(url) ? (serverName ?? host) : undefined }
  return http2 ? new Http2Pool(options) : new WirePool(options)
}
