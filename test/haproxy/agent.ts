import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { after } from 'node:test'
import { agentLine } from '../../src/instance/agent-check.ts'

/** An agent that always reports the same weight. @returns its port; closed at the end of the test file */
export async function startAgent(weight: number): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => {}).end(agentLine(true, weight)))
  after(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as AddressInfo).port
}
