import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryFolder } from '../../../src/cli/up/child.ts'

/** A DNS server on port 53 of an address of its own: every name is this machine. Requires root. */
export class NameServer {
  readonly #address: string
  #socket: Socket | undefined
  #silent = false
  /** A resolv.conf that names it. */
  readonly file: string = join(temporaryFolder('dns'), 'resolv.conf')

  private constructor(address: string) {
    this.#address = address
    writeFileSync(this.file, `nameserver ${address}\noptions timeout:1 attempts:2\n`)
  }

  static async start(): Promise<NameServer> {
    const octet = (): number => 2 + Math.floor(Math.random() * 250)
    const server = new NameServer(`127.${octet()}.${octet()}.${octet()}`)
    await server.restore()
    return server
  }

  /** Takes queries and responds to none. */
  silence(): void {
    this.#silent = true
  }

  /** Queries are refused. */
  close(): void {
    this.#socket?.close()
    this.#socket = undefined
  }

  async restore(): Promise<void> {
    this.#silent = false
    if (this.#socket) return
    const socket = createSocket('udp4')
    this.#socket = socket
    socket.on('message', (query, peer) => {
      if (this.#silent) return
      const end = query.indexOf(0, 12) + 5
      const isA = query.readUInt16BE(end - 4) === 1
      const head = Buffer.from(query.subarray(0, 12))
      head.writeUInt16BE(0x8580, 2)
      head.writeUInt16BE(isA ? 1 : 0, 6)
      head.fill(0, 8)
      const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1])
      const response = Buffer.concat([head, query.subarray(12, end), ...(isA ? [record] : [])])
      socket.send(response, peer.port, peer.address)
    })
    socket.bind(53, this.#address)
    await once(socket, 'listening')
  }
}
