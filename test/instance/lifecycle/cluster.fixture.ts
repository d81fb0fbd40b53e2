/** Two workers of node:cluster, whose parent accepts the connections and passes them on, as the daemon of pm2 does. */

import cluster from 'node:cluster'
import Fastify from 'fastify'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'

if (cluster.isPrimary) {
  cluster.schedulingPolicy = cluster.SCHED_RR
  for (let i = 0; i < 2; i++) cluster.fork()
} else {
  const app = Fastify({ logger: { level: 'info' } })
  await app.register(lifecycle)
  app.get('/', async () => ({ version: '1', pid: process.pid, id: String(cluster.worker?.id) }))
  await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
}
