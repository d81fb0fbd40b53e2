import { connect as connectPlain, isIP, type Socket } from 'node:net'
import { type ConnectionOptions, checkServerIdentity, connect as connectTls, type TLSSocket } from 'node:tls'
import { guard } from '../../boundary.ts'

/** TLS settings of a server, as in Node's `tls.connect`. */
export type ServerTls = Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'rejectUnauthorized'>

export interface ServerAddress {
  readonly host?: string
  readonly port?: number
  /** A Unix domain socket, instead of `host` and `port`. */
  readonly path?: string
  /** For TLS: the name that the server's certificate must be valid for. */
  readonly serverName: string | undefined
  readonly tls?: ServerTls
}

/** Keeps the latest TLS session of a server, which its next connection resumes. */
export interface SessionOwner {
  session: Buffer | undefined
}

/** @param onread as in `net.connect` */
export function openSocket(
  { host, port, path, serverName, tls }: ServerAddress,
  protocol: 'http/1.1' | 'h2',
  owner: SessionOwner,
  onread?: object,
): Socket {
  const place = path === undefined ? { host, port } : { path }
  // @types/node does not know `onread` of `tls.connect`.
  const address = { ...place, ...{ onread } } as ConnectionOptions & { port: number }
  const socket =
    serverName === undefined ? connectPlain(address) : openTls({ ...address, ...tls }, serverName, protocol, owner)
  return socket.setNoDelay(true).setKeepAlive(true, 60_000)
}

function openTls(options: ConnectionOptions, serverName: string, protocol: string, owner: SessionOwner): TLSSocket {
  const socket = connectTls({
    ...options,
    // RFC 6066 section 3: an address is not sent.
    servername: isIP(serverName) === 0 ? serverName : '',
    checkServerIdentity: (_, certificate) => checkServerIdentity(serverName, certificate),
    ALPNProtocols: [protocol],
    session: owner.session,
  })
  const keep = (session: Buffer): void => {
    owner.session = session
  }
  return socket.on('session', guard('a TLS session', keep))
}
