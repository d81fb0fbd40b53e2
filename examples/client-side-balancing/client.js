// A program that calls the instances of another service without a load balancer between them.
import { Balancer } from 'fastify-fleet/balancer'

const targets = (process.env.TARGETS ?? 'http://127.0.0.1:4001,http://127.0.0.1:4002,http://127.0.0.1:4003').split(',')
const balancer = new Balancer(targets, { policy: 'two-choices' })
const counts = {}
for (let i = 0; i < 300; i++) {
  const response = await balancer.request(`/price/${i}`)
  const { by } = await response.body.json()
  counts[by] = (counts[by] ?? 0) + 1
}
console.log(JSON.stringify(counts))
await balancer.close()
