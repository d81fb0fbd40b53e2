// An instance that knows its peers and records each order that it executes.
import Fastify from 'fastify'
import loadBalancer from '../../src/instance/admin-api.ts'
import headers from '../../src/instance/headers.ts'
import { serverOptions } from '../../src/instance/server-options.ts'
import registry from '../../src/state/registry/index.ts'
import { serveOrders } from '../helpers/ledger.ts'

const { PORT, ORDERS = '' } = process.env
const app = Fastify(serverOptions())
await app.register(loadBalancer)
await app.register(headers)
await app.register(registry)
const { id, pid, version } = app.fleet.instance
for (const path of ['/', '/v2']) app.get(path, async () => ({ id, pid, version }))
serveOrders(app, ORDERS, () => ({ id, pid, version }))
await app.listen({ port: Number(PORT), host: '127.0.0.1' })
