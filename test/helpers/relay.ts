import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { after } from 'node:test'

const opened: Relay[] = []
// At the root of every test file that imports this: inside a hook it would run when that hook has ended.
after(() => {
  for (const relay of opened) relay.refuse()
})

/** A way to a server on this machine that can be slow, silent, or gone. */
export class Relay {
  readonly port: number
  readonly #target: number
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #delayMs = 0
  #silent = false

  private constructor(server: Server, target: number) {
    this.#server = server
    this.#target = target
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (client) => this.#join(client))
    opened.push(this)
  }

  static async open(target: number): Promise<Relay> {
    const server = createServer({ pauseOnConnect: true, noDelay: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Relay(server, target)
  }

  /** Answers come this much later. */
  delay(ms: number): void {
    this.#delayMs = ms
  }

  /** Connections stay open and new ones are taken, but nothing moves. */
  silence(): void {
    this.#silent = true
    for (const socket of this.#sockets) socket.pause()
  }

  /** Ends all connections; new ones are taken. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Ends all connections, and refuses new ones. */
  refuse(): void {
    this.#server.close()
    this.cut()
  }

  /** Everything passes again. */
  async restore(): Promise<void> {
    this.#delayMs = 0
    this.#silent = false
    for (const socket of this.#sockets) socket.resume()
    if (this.#server.listening) return
    this.#server.listen(this.port, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  #join(client: Socket): void {
    const server = connect({ port: this.#target, host: '127.0.0.1', noDelay: true })
    this.#pass(client, server, () => 0)
    this.#pass(server, client, () => this.#delayMs)
  }

  #pass(from: Socket, to: Socket, delayMs: () => number): void {
    this.#sockets.add(from)
    from.on('data', (chunk) => {
      const ms = delayMs()
      if (ms > 0) setTimeout(() => to.write(chunk), ms).unref()
      else to.write(chunk)
    })
    from.on('error', () => {})
    from.on('close', () => {
      this.#sockets.delete(from)
      to.destroy()
    })
    if (this.#silent) from.pause()
    else from.resume()
  }
}
