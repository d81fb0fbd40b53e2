import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { after } from 'node:test'
import { freePort } from './free-port.ts'

const opened: Relay[] = []
// At the root of every test file that imports this. Inside a hook it would run as soon as that hook ends.
after(() => {
  for (const relay of opened) relay.refuse()
})

/** A TCP relay to a local server that can delay, stop or refuse traffic. */
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
    // Reserved while it refuses connections, too: the kernel could give a port of its own choice to another process.
    server.listen(await freePort(), '127.0.0.1')
    await once(server, 'listening')
    return new Relay(server, target)
  }

  /** Delays data from the server. */
  delay(ms: number): void {
    this.#delayMs = ms
  }

  /** Keeps connections open and accepts new ones, but forwards no data. */
  silence(): void {
    this.#silent = true
    for (const socket of this.#sockets) socket.pause()
  }

  /** Closes all connections and accepts new ones. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Closes all connections and refuses new ones. */
  refuse(): void {
    this.#server.close()
    this.cut()
  }

  /** Forwards all traffic again. */
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
    // In order, also when the delay becomes shorter.
    const delayed: Buffer[] = []
    from.on('data', (chunk: Buffer) => {
      const ms = delayMs()
      if (ms === 0 && delayed.length === 0) return void to.write(chunk)
      delayed.push(chunk)
      setTimeout(() => to.write(delayed.shift() as Buffer), ms).unref()
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
