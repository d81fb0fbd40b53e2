/** The built-in proxy, which finds the instances in the registry. */

import { fromRegistry } from '../../../src/edge/balancer/discovery.ts'
import { createProxy } from '../../../src/edge/http/server.ts'

const proxy = createProxy({
  discover: fromRegistry(),
  connections: { responseTimeoutMs: Number(process.env.RESPONSE_TIMEOUT_MS) },
})
await proxy.listen({ port: Number(process.env.PORT), host: '0.0.0.0' })
