import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { after } from 'node:test'

export interface Records {
  a?: string[]
  srv?: { priority: number; weight: number; port: number; name: string }[]
}

const name = (text: string): Buffer =>
  Buffer.concat([
    ...text.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.from([0]),
  ])

/** A DNS server (RFC 1035) with the same A and SRV records for every name. */
export async function startNameServer(): Promise<{ address: string; records: Records; requested: number }> {
  const state = { address: '', records: {} as Records, requested: 0 }
  const socket = createSocket('udp4')
  socket.on('message', (query, peer) => {
    state.requested++
    const end = query.indexOf(0, 12) + 5
    const type = query.readUInt16BE(end - 4)
    const data =
      type === 1
        ? (state.records.a ?? []).map((address) => Buffer.from(address.split('.').map(Number)))
        : type === 33
          ? (state.records.srv ?? []).map(({ priority, weight, port, name: host }) => {
              const fixed = Buffer.alloc(6)
              fixed.writeUInt16BE(priority, 0)
              fixed.writeUInt16BE(weight, 2)
              fixed.writeUInt16BE(port, 4)
              return Buffer.concat([fixed, name(host)])
            })
          : []
    const header = Buffer.from(query.subarray(0, 12))
    // An authoritative response; NXDOMAIN without records.
    header.writeUInt16BE(data.length > 0 ? 0x8500 : 0x8503, 2)
    header.writeUInt16BE(data.length, 6)
    header.fill(0, 8)
    const responses = data.map((bytes) => {
      const record = Buffer.alloc(12)
      record.writeUInt16BE(0xc00c, 0)
      record.writeUInt16BE(type, 2)
      record.writeUInt16BE(1, 4)
      record.writeUInt32BE(1, 6)
      record.writeUInt16BE(bytes.length, 10)
      return Buffer.concat([record, bytes])
    })
    socket.send(Buffer.concat([header, query.subarray(12, end), ...responses]), peer.port, peer.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  after(() => socket.close())
  state.address = `127.0.0.1:${(socket.address() as AddressInfo).port}`
  return state
}
