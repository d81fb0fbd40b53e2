import { connect, isIP, type Socket } from 'node:net'
import { type ConnectionOptions, checkServerIdentity, connect as connectTls } from 'node:tls'
import { guard } from '../../boundary.ts'

export interface ServerAddress {
  readonly host: string
  readonly port: number
  /** For TLS: the name that the server's certificate must be valid for. */
  readonly serverName: string | undefined
}

/** Keeps the latest TLS session of a server, which its next connection resumes. */
export interface SessionOwner {
  session: Buffer | undefined
}

/** @param onread as in `net.connect` */
export function openSocket({ host, port, serverName }: ServerAddress, onread: object, owner: SessionOwner): Socket {
  const address = { host, port, onread } as ConnectionOptions & { port: number }
  const socket = serverName === undefined ? connect(address) : openTls(address, serverName, owner)
  return socket.setNoDelay(true).setKeepAlive(true, 60_000)
}

function openTls(address: ConnectionOptions, serverName: string, owner: SessionOwner): Socket {
  const socket = connectTls({
    ...address,
    // RFC 6066 section 3: an address is not sent.
    servername: isIP(serverName) === 0 ? serverName : '',
    checkServerIdentity: (_, certificate) => checkServerIdentity(serverName, certificate),
    ALPNProtocols: ['http/1.1'],
    session: owner.session,
  })
  const keep = (session: Buffer): void => {
    owner.session = session
  }
  return socket.on('session', guard('a TLS session', keep))
}
