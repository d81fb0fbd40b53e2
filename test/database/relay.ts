import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { after } from 'node:test'

/** A way to a server on this machine that can be made to hang: connections open, nothing moves. */
export class Relay {
  readonly port: number
  readonly #sockets = new Set<Socket>()
  #stalled = false

  private constructor(port: number) {
    this.port = port
  }

  static async open(target: number): Promise<Relay> {
    const server = createServer({ pauseOnConnect: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const relay = new Relay((server.address() as AddressInfo).port)
    server.on('connection', (client) => relay.#join(client, connect(target, '127.0.0.1')))
    after(() => {
      for (const socket of relay.#sockets) socket.destroy()
      server.close()
    })
    return relay
  }

  #join(...pair: [Socket, Socket]): void {
    for (const [i, socket] of pair.entries()) {
      const other = pair[1 - i] as Socket
      this.#sockets.add(socket)
      socket.on('data', (chunk) => other.write(chunk))
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
      if (this.#stalled) socket.pause()
      else socket.resume()
    }
  }

  stall(): void {
    this.#stalled = true
    for (const socket of this.#sockets) socket.pause()
  }

  resume(): void {
    this.#stalled = false
    for (const socket of this.#sockets) socket.resume()
  }
}
