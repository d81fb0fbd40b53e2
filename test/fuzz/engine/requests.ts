import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { Duplex } from 'node:stream'

/** A connection without a network: written data is discarded. */
class Connection extends Duplex {
  readonly remoteAddress = '127.0.0.1'
  readonly localPort = 80
  override _read(): void {}
  override _write(_: Buffer, __: string, done: () => void): void {
    done()
  }
  setTimeout(): this {
    return this
  }
}

let onRequest: (request: IncomingMessage, response: ServerResponse) => void
const server = createServer({ maxHeaderSize: 65_536 }, (request, response) => {
  onRequest(request, response)
  response.end()
}).on('clientError', (_, socket) => socket.destroy())

/** The requests that Node's parser finds in bytes, as far as it accepts them. */
export function parse(bytes: Buffer, each?: typeof onRequest): IncomingMessage[] {
  const parsed: IncomingMessage[] = []
  onRequest = (request, response) => {
    parsed.push(request)
    each?.(request, response)
  }
  const connection = new Connection()
  connection.on('error', () => {})
  server.emit('connection', connection)
  connection.emit('data', bytes)
  connection.destroy()
  return parsed
}
