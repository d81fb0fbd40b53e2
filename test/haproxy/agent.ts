import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { agentLine } from '../../src/instance/agent-check.ts'
import { atEnd } from '../edge/at-end.ts'

/** An agent that always reports the same weight. @returns its port; closed at the end of the test file */
export async function startAgent(weight: number): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => {}).end(agentLine(true, weight)))
  atEnd(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as AddressInfo).port
}
