// The TCP proxy: layer 4, over the same balancer as the HTTP proxy. A reader needs these ideas:
//   createTcpProxy  options → a Balancer with its probes → TcpProxy; nothing listens before `listen()`
//   TcpProxy        the listening server, its open client connections and their end at `close()`
//   TcpRelay        one client connection: choose a target, connect, and then forward bytes in both directions
// A connection counts as a request of the balancer: it is in flight until it closes, and the policy chooses once per
// connection. Another target is tried only before the first byte is forwarded.
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { plainAddress } from '../../base/client-address.ts'
import { bool, int, type OptionsOf, type Resolved, resolveOptions } from '../../base/options.ts'
import { guardConnections, resetConnection } from '../../base/socket-bounds.ts'
import { Balancer } from '../balancer/balancer.ts'
import type { BalancerOptions } from '../balancer/options.ts'
import type { PickInput } from '../balancer/policies/index.ts'
import type { Target, TargetOptions } from '../balancer/target.ts'
import { guard } from '../boundary.ts'
import { type ListenOptions, listen } from '../listen.ts'
import { addressOf, parseTarget } from '../target-url.ts'

/** @internal */
export const tcpProxyOptions = {
  /** A connection without traffic for this long is closed; 0: never. */
  idleTimeoutMs: int(0, 86_400_000, 'milliseconds').default(600_000),
  /** Concurrent client connections; further ones are closed at once. 0: no limit. */
  maxConnections: int(0, Number.MAX_SAFE_INTEGER, 'connections').default(0),
  /** Send the client's address to the target in PROXY protocol version 1, which the target must expect. */
  proxyProtocol: bool.default(false),
  /** Time after which `close()` cuts connections that are still open. */
  shutdownTimeoutMs: int(0, 86_400_000, 'milliseconds').default(30_000),
}
export type TcpProxyOptions = BalancerOptions &
  OptionsOf<typeof tcpProxyOptions> & {
    /** `tcp://host:port`. With `http://host:port` the probe is HTTP; the traffic is forwarded as bytes all the same. */
    targets: readonly (string | TargetOptions)[]
  }
type ResolvedOptions = Resolved<typeof tcpProxyOptions>

/**
 * A layer 4 proxy over the balancer: it chooses a target per connection and forwards bytes.
 *
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID, FLEET_ERR_TARGET_INVALID, and the errors of {@link Balancer}
 */
export function createTcpProxy(options: TcpProxyOptions): TcpProxy {
  const { targets, idleTimeoutMs, maxConnections, proxyProtocol, shutdownTimeoutMs, ...rest } = options
  const own = { idleTimeoutMs, maxConnections, proxyProtocol, shutdownTimeoutMs }
  const plain = targets.some(
    (target) => parseTarget(typeof target === 'string' ? target : target.url).protocol === 'tcp:',
  )
  const balancer = new Balancer(targets, { ...rest, probe: { type: plain ? 'tcp' : 'http', ...rest.probe } })
  return new TcpProxy(resolveOptions('tcpProxy', tcpProxyOptions, own), balancer)
}

/** The kernel detects peers that vanished. */
const socketOptions = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 }

export class TcpProxy {
  readonly balancer: Balancer
  readonly server: Server
  readonly #options: ResolvedOptions
  readonly #clients = new Set<Socket>()
  #closing: Promise<void> | undefined

  /** Use {@link createTcpProxy}. */
  constructor(options: ResolvedOptions, balancer: Balancer) {
    this.#options = options
    this.balancer = balancer
    this.server = createServer({ allowHalfOpen: true, pauseOnConnect: true, ...socketOptions }, (client) => {
      this.#clients.add(client)
      client.once('close', () => this.#clients.delete(client))
      new TcpRelay(balancer, client, options).start()
    })
    if (options.maxConnections > 0) this.server.maxConnections = options.maxConnections
    guardConnections(this.server)
  }

  /** Null while the proxy does not listen. */
  get address(): AddressInfo | null {
    return this.server.address() as AddressInfo | null
  }

  get targets(): readonly Target[] {
    return this.balancer.targets
  }

  /**
   * Resolves with the URL once every target has been probed and the proxy accepts connections.
   *
   * @throws FLEET_ERR_PORT_TAKEN
   */
  async listen(options: ListenOptions = {}): Promise<string> {
    await this.balancer.ready()
    return `tcp://${await listen(this.server, options)}`
  }

  /** Accepts no more connections, waits for open ones to end, and cuts them at the deadline (`shutdownTimeoutMs`). */
  close(): Promise<void> {
    this.#closing ??= this.#drain()
    return this.#closing
  }

  async #drain(): Promise<void> {
    const cut = guard('the end of a shutdown', () => {
      for (const client of this.#clients) client.destroy()
    })
    const deadline = setTimeout(cut, this.#options.shutdownTimeoutMs)
    await new Promise((resolve) => this.server.close(resolve))
    clearTimeout(deadline)
    await this.balancer.close()
  }
}

/** Connects one client to a target, or to another one when that refuses. */
class TcpRelay {
  readonly #balancer: Balancer
  readonly #client: Socket
  readonly #options: ResolvedOptions
  readonly #input: PickInput
  readonly #tried: Target[] = []
  #waitUntil: number | undefined

  constructor(balancer: Balancer, client: Socket, options: ResolvedOptions) {
    this.#balancer = balancer
    this.#client = client
    this.#options = options
    this.#input = { client: plainAddress(client.remoteAddress) ?? '', headers: {} }
  }

  start(): void {
    if (this.#client.destroyed) return
    const target = this.#balancer.context.rotation.choose(this.#input, this.#tried)
    if (target) this.#connect(target)
    else this.#wait()
  }

  #connect(target: Target): void {
    const { rotation, recordOutcome, settle, release } = this.#balancer.context
    const startedAt = performance.now()
    const upstream = connect({ ...addressOf(target.url), allowHalfOpen: true, ...socketOptions })
    const late = setTimeout(() => upstream.destroy(), this.#balancer.options.connections.connectTimeoutMs)
    let connected = false
    this.#tried.push(target)
    rotation.begin(target)
    upstream.on('error', () => upstream.destroy())
    const onConnect = (): void => {
      connected = true
      clearTimeout(late)
      recordOutcome(target, 200, undefined, startedAt)
      settle(target)
      this.#join(upstream)
    }
    const onClose = (): void => {
      clearTimeout(late)
      // The outcome first: a client that waits for this place must not go to a target that has just failed.
      if (!connected) {
        recordOutcome(target, 0, 'refused', startedAt)
        settle(target)
      }
      release(target)
      // No byte of the client has been read yet, so another target can serve it.
      if (!connected) this.start()
    }
    const fail = (): void => {
      upstream.destroy()
      this.#client.destroy()
    }
    upstream.once('connect', guard('a TCP connection', onConnect, fail))
    upstream.once('close', guard('the end of a TCP connection', onClose, fail))
  }

  #join(upstream: Socket): void {
    const client = this.#client
    if (client.destroyed) {
      upstream.destroy()
      return
    }
    if (this.#options.proxyProtocol) upstream.write(proxyLine(client))
    // Reads and writes both reset a socket's timer, so one of the two sides is enough.
    // Half-open connections are valid in TCP and have the same limit.
    client.setTimeout(this.#options.idleTimeoutMs, () => client.destroy())
    client.pipe(upstream)
    upstream.pipe(client)
    client.once(
      'close',
      guard('the end of a TCP connection', (failed: boolean) => end(upstream, failed)),
    )
    upstream.once(
      'close',
      guard('the end of a TCP connection', (failed: boolean) => end(client, failed)),
    )
  }

  #wait(): void {
    const { rotation, waitingRoom, waitMs } = this.#balancer.context
    const now = performance.now()
    this.#tried.length = 0
    this.#waitUntil ??= Math.min(now, rotation.lostAt ?? now) + waitMs
    const onEnd = (retryNow: boolean): void => {
      if (retryNow) this.start()
      else this.#client.destroy()
    }
    const retry = guard('the end of a wait', onEnd, () => this.#client.destroy())
    const leaveQueue = waitingRoom.enter(this.#waitUntil - now, retry)
    if (leaveQueue) this.#client.once('close', guard('the end of a wait', leaveQueue))
    else this.#client.destroy()
  }
}

/** A failure on one side resets the other, because an incomplete stream must not look complete. */
function end(other: Socket, failed: boolean): void {
  if (failed) resetConnection(other)
  else other.destroySoon()
}

/** PROXY protocol, version 1, section 2.1. */
function proxyLine({ remoteAddress = '', remotePort, localAddress = '', localPort }: Socket): string {
  const [from, to] = [remoteAddress, localAddress].map((address) => address.replace(/^::ffff:/, '')) as [string, string]
  if (from === '') return 'PROXY UNKNOWN\r\n'
  return `PROXY ${from.includes(':') ? 'TCP6' : 'TCP4'} ${from} ${to} ${remotePort} ${localPort}\r\n`
}
