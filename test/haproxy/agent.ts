import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { after } from 'node:test'
import { agentLine } from '../../src/instance/agent-check.ts'

/** An agent that asks for the same weight whatever the machine is doing. Gives its port; ends with the test file. */
export async function startAgent(weight: number): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => {}).end(agentLine(true, weight)))
  after(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as AddressInfo).port
}
