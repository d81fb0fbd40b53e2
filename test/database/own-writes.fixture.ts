import type { AddressInfo } from 'node:net'
import { shop } from './shop.ts'

// One of three instances, in a separate process: `own-writes.fixture.ts PRIMARY REPLICA REPLICA`
const [primary = '', ...replicas] = process.argv.slice(2)
const app = await shop({ primary, replicas })
await app.listen({ port: 0, host: '127.0.0.1' })
console.log(`listening on ${(app.server.address() as AddressInfo).port}`)
