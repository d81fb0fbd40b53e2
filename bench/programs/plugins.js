// An app with one plugin (its name in the arguments), a preset, or nothing but Fastify (`bare`).
import Fastify from 'fastify'
import { hello, listening, port } from './hello.js'

const [subject] = process.argv.slice(2)
const app = Fastify()
if (subject !== 'bare') {
  const fleet = await import('fastify-fleet')
  if (subject === 'core' || subject === 'full') await app.register(fleet.fleet, { preset: subject })
  else await app.register(fleet[subject])
}
app.get('/', async () => hello)
await app.listen({ port, host: '127.0.0.1' })
listening()
