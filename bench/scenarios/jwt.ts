import type { Machine } from '../machine.ts'
import { type Open, type Scenario, type Subject, serverMetrics } from '../scenario.ts'
import { fleetEnv, type ServerOptions, underLoad } from '../servers.ts'

const connections = 50

/** A program under load, each connection with a token of its own. */
const subject = (name: string, options: ServerOptions): Subject => ({
  name,
  async open(machine: Machine): Promise<Open> {
    const program = await machine.program(options.file, { ...options, env: fleetEnv })
    const logIn = async (): Promise<string> => {
      const response = await fetch(`http://127.0.0.1:${program.port}/login`, { method: 'POST' })
      return `Bearer ${((await response.json()) as { token: string }).token}`
    }
    const tokens = await Promise.all(Array.from({ length: connections }, logIn))
    const requests = tokens.map((authorization) => ({ path: '/me', headers: { authorization } }))
    return underLoad(machine, program, { connections, requests })
  },
})

const ours = 'fastify-fleet'
const bare = 'no verification'

const missed = {
  why: 'any addition to bare Fastify costs several times more here than alone, whatever the plugin',
  profile: 'machine.md',
}

const scenario: Scenario = {
  name: 'jwt',
  title: 'A route that requires a token',
  about:
    'HS256, a token with three claims that expires in fifteen minutes, 50 persistent connections with a token each, so that every token but ' +
    'the first ones has been seen before. Ours checks besides that it was not revoked.',
  slices: 4,
  metrics: serverMetrics,
  subjects: [
    subject(bare, { file: 'jwt-bare.js' }),
    subject(ours, { file: 'jwt-fleet.js' }),
    subject('one native HMAC by hand', { file: 'jwt-hmac.js' }),
    subject('jsonwebtoken, secret as a string', { file: 'jwt-jsonwebtoken.js' }),
    subject('@fastify/jwt', { file: 'jwt-fastify.js' }),
    subject('@fastify/jwt with its cache', { file: 'jwt-fastify.js', args: ['cached'] }),
  ],
  bars: [
    {
      what: 'route with a token seen before over the same route without, CPU per request',
      subject: ours,
      metric: 'cpu',
      over: bare,
      limit: 1.15,
      missed,
    },
  ],
}
export default scenario
