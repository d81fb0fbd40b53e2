import { type Agent, request } from 'node:http'

/** Status and `Connection` of a response; `refused`, or `cut` if it was in flight. */
export function outcome(
  port: number,
  path: string,
  agent: Agent | false = false,
): Promise<[status: string, connection?: string]> {
  return new Promise((resolve) => {
    const outgoing = request({ host: '127.0.0.1', port, path, agent }, (response) => {
      response.resume().once('end', () => resolve([`${response.statusCode}`, response.headers.connection]))
    })
    outgoing.once('error', ({ code }: NodeJS.ErrnoException) => resolve([code === 'ECONNREFUSED' ? 'refused' : 'cut']))
    outgoing.end()
  })
}
