// Bare Fastify, as a front can have it behind it: HAProxy asks `/ready`.
import Fastify from 'fastify'
import { hello, listening, port } from './hello.js'

const app = Fastify()
app.get('/', async () => hello)
app.get('/ready', async () => ({ ready: true }))
await app.listen({ port, host: '127.0.0.1' })
listening()
