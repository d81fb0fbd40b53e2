import httpProxy from '@fastify/http-proxy'
import Fastify from 'fastify'
import { listening, port } from './hello.js'

const upstreams = process.argv.slice(2)
let turn = 0
const app = Fastify()
await app.register(httpProxy, {
  upstream: '',
  replyOptions: { getUpstream: () => upstreams[turn++ % upstreams.length] },
})
await app.listen({ port, host: '127.0.0.1' })
listening()
