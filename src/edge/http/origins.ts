import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { plainAddress, resolveClient } from '../../base/client-address.ts'
import { type Networks, networks } from '../../base/networks.ts'

/** The peer of a connection. */
export class Origin {
  /** Address of the peer. */
  readonly address: string
  readonly protocol: 'http' | 'https'
  /** Local port that the client connected to. */
  readonly port: string
  /** The peer is a trusted proxy: the forwarding headers that it sends are kept. */
  readonly trusted: boolean
  /** The latest response on this connection, until it is complete. */
  responding: ServerResponse | undefined
  /** In-flight requests of this connection; one for each HTTP/2 stream. */
  inflight = 0
  /** Requests of this connection so far. */
  requests = 0
  #host: string | undefined
  #element: string | undefined

  constructor(socket: Socket, proxies: Networks) {
    this.address = plainAddress(socket.remoteAddress) ?? ''
    this.protocol = (socket as { encrypted?: boolean }).encrypted === true ? 'https' : 'http'
    this.port = String(socket.localPort ?? '')
    this.trusted = proxies.includes(this.address)
  }

  /**
   * The `Forwarded` element (RFC 7239) of a request on this connection; undefined for an invalid `host`. The last one is
   * cached, because a connection mostly requests the same host.
   */
  element(host: string): string | undefined {
    if (host !== this.#host) {
      // A client of a Unix domain socket has no address.
      const node = this.address.includes(':') ? `"[${this.address}]"` : this.address || 'unknown'
      this.#host = host
      this.#element = isHost(host) ? `for=${node};host=${quoted(host)};proto=${this.protocol}` : undefined
    }
    return this.#element
  }
}

/** An empty value is valid: RFC 9112 section 3.2. */
const isHost = (host: string): boolean => /^(?:[\w.~!$&'()*+,;=%-]*|\[[\da-f:.]+\])(?::\d*)?$/i.test(host)

/** A value that is not a token, for example one with a colon, is quoted. */
const quoted = (text: string): string => (/^[\w!#$%&'*+.^`|~-]+$/.test(text) ? text : `"${text}"`)

/** Identifies trusted proxies, and the client behind them. */
export class Origins {
  readonly #trusted: Networks
  readonly #origins = new WeakMap<object, Origin>()

  /**
   * @param trusted addresses, networks, or names that `networks()` accepts
   * @throws FLEET_ERR_OPTION_INVALID
   */
  constructor(trusted: readonly string[], option: string) {
    this.#trusted = networks(trusted, option)
  }

  of(socket: Socket): Origin {
    let origin = this.#origins.get(socket)
    if (!origin) {
      origin = new Origin(socket, this.#trusted)
      this.#origins.set(socket, origin)
    }
    return origin
  }

  /**
   * The nearest address that is not a trusted proxy's.
   *
   * @param forwardedFor `X-Forwarded-For` as received; entries to the left of the trusted ones may be forged
   */
  client(origin: Origin, forwardedFor: string | undefined): string {
    if (!origin.trusted || forwardedFor === undefined) return origin.address
    const trusts = (address: string, hop: number): boolean => hop === 0 || this.#trusted.includes(address)
    return resolveClient(origin.address, forwardedFor, trusts)
  }
}
