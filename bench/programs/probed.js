// An app with the umbrella plugin and a check of its own; `/runs` tells how often the check has run.
import Fastify from 'fastify'
import fleet from 'fastify-fleet'
import { listening, port } from './hello.js'

let runs = 0
const app = Fastify()
await app.register(fleet)
app.health.add('dependency', async () => void runs++, { intervalMs: 1_000 })
app.get('/runs', async () => ({ runs }))
await app.listen({ port, host: '127.0.0.1' })
listening()
