import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { plainAddress, resolveClient } from '../../base/client-address.ts'
import { type Networks, networks } from '../../base/networks.ts'

/** Whom a connection comes from. */
export class Origin {
  /** Address of the peer. */
  readonly address: string
  readonly protocol: 'http' | 'https'
  /** Local port the client connected to. */
  readonly port: string
  /** The peer is a proxy of ours: what it says of the client before it is passed on. */
  readonly trusted: boolean
  /** The latest answer on this connection, while it is not complete. */
  answering: ServerResponse | undefined
  /** Requests on this connection that are not answered yet; of an HTTP/2 stream there is one. */
  inflight = 0
  #host: string | undefined
  #element: string | undefined

  constructor(socket: Socket, proxies: Networks) {
    this.address = plainAddress(socket.remoteAddress) ?? ''
    this.protocol = (socket as { encrypted?: boolean }).encrypted === true ? 'https' : 'http'
    this.port = String(socket.localPort ?? '')
    this.trusted = proxies.includes(this.address)
  }

  /**
   * What `Forwarded` (RFC 7239) says of a request on this connection; undefined when `host` is none. Kept, because a
   * connection mostly asks for the same host.
   */
  element(host: string): string | undefined {
    if (host !== this.#host) {
      const node = this.address.includes(':') ? `"[${this.address}]"` : this.address
      this.#host = host
      this.#element = isHost(host) ? `for=${node};host=${quoted(host)};proto=${this.protocol}` : undefined
    }
    return this.#element
  }
}

/** RFC 9112 section 3.2 lets a client leave the value empty. */
const isHost = (host: string): boolean => /^(?:[\w.~!$&'()*+,;=%-]*|\[[\da-f:.]+\])(?::\d*)?$/i.test(host)

/** A value with a colon or anything else that is no token stands in quotes. */
const quoted = (text: string): string => (/^[\w!#$%&'*+.^`|~-]+$/.test(text) ? text : `"${text}"`)

/** Knows which peers are proxies of ours, and who is the client behind them. */
export class Origins {
  readonly #trusted: Networks
  readonly #known = new WeakMap<object, Origin>()

  /**
   * @param trusted addresses, networks, or names as of `networks()`
   * @throws FLEET_ERR_OPTION_INVALID
   */
  constructor(trusted: readonly string[], option: string) {
    this.#trusted = networks(trusted, option)
  }

  of(socket: Socket): Origin {
    let origin = this.#known.get(socket)
    if (!origin) {
      origin = new Origin(socket, this.#trusted)
      this.#known.set(socket, origin)
    }
    return origin
  }

  /**
   * The nearest address that is not a proxy of ours.
   *
   * @param forwardedFor `X-Forwarded-For` as it came in; everything left of what we trust may be made up
   */
  client(origin: Origin, forwardedFor: string | undefined): string {
    if (!origin.trusted || forwardedFor === undefined) return origin.address
    const trusts = (address: string, hop: number): boolean => hop === 0 || this.#trusted.includes(address)
    return resolveClient(origin.address, forwardedFor, trusts)
  }
}
