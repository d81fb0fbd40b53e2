// Arguments: the upstreams. Everything as users get it; POLICY names another policy.
import { createProxy } from 'fastify-fleet/http-proxy'
import { listening, port } from './hello.js'

const proxy = createProxy({ targets: process.argv.slice(2), policy: process.env.POLICY ?? 'round-robin' })
await proxy.listen({ port })
listening()
