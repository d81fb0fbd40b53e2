import { connect } from 'node:net'

/** Sends bytes to a server on loopback, then FIN. @returns the data received until the server closed the connection */
export function exchange(port: number, bytes: Buffer): Promise<string> {
  return new Promise((resolve) => {
    let text = ''
    const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
    socket.setEncoding('latin1')
    socket.on('data', (data) => {
      text += data
    })
    socket.on('end', () => socket.destroy())
    // A reset is a valid end of a connection with invalid data.
    socket.on('error', () => {})
    socket.on('close', () => resolve(text))
    socket.end(bytes)
  })
}

/** The statuses of the final responses, as far as they start a line. */
export const statuses = (text: string): number[] =>
  [...text.matchAll(/(?:^|\n)HTTP\/1\.1 ([2-9]\d\d)/g)].map((match) => Number(match[1]))
