import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { atEnd } from '../edge/at-end.ts'

/** A DNS server for one name: responds with `addresses` as they are at the time of the query (RFC 1035). */
export async function startNames(addresses: Set<string>): Promise<number> {
  const socket = createSocket('udp4')
  socket.on('message', (query, from) => {
    // The question ends with the root label, type and class; the rest, EDNS, is not echoed.
    const question = query.subarray(12, query.indexOf(0, 12) + 5)
    const ofAddress = question.readUInt16BE(question.length - 4) === 1
    const records = [...(ofAddress ? addresses : [])].map((address) => {
      const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 0, 0, 0, 0])
      record.set(address.split('.').map(Number), 12)
      return record
    })
    const head = Buffer.from([0, 0, 0x84, 0, 0, 1, 0, records.length, 0, 0, 0, 0])
    query.copy(head, 0, 0, 2)
    socket.send(Buffer.concat([head, question, ...records]), from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  atEnd(() => socket.close())
  return socket.address().port
}
