import type { AddressInfo, Server } from 'node:net'
import { FleetError } from '../base/errors.ts'

export interface ListenOptions {
  /** @default 0: any free port */
  port?: number
  /** @default '127.0.0.1' */
  host?: string
}

/**
 * Starts a server.
 *
 * @returns `host:port` in the form of a URL
 * @throws FLEET_ERR_PORT_TAKEN, or the system's error for this address
 */
export async function listen(server: Server, { port = 0, host = '127.0.0.1' }: ListenOptions): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException): void => {
      const taken = cause.code === 'EADDRINUSE'
      reject(taken ? new FleetError('FLEET_ERR_PORT_TAKEN', `${host}:${port}; choose another port`, { cause }) : cause)
    }
    server.once('error', failed)
    server.listen(port, host, () => {
      server.removeListener('error', failed)
      resolve()
    })
  })
  const { address, family, port: bound } = server.address() as AddressInfo
  return `${family === 'IPv6' ? `[${address}]` : address}:${bound}`
}
