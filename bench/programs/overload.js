// A server with a known capacity. `WORK=cpu`: each request takes some milliseconds of the processor, on either side of
// an await. `WORK=pool`: each takes one of ten places for 20 ms, as with a pool of database connections.
import { pbkdf2Sync } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import underPressure from '@fastify/under-pressure'
import Fastify from 'fastify'
import fleet from 'fastify-fleet'
import { listening, port } from './hello.js'

const app = Fastify()
if (process.env.SHIELD === 'fleet') {
  await app.register(fleet, { overload: { latency: process.env.WORK === 'pool' } })
} else if (process.env.SHIELD === 'fleet-off') {
  await app.register(fleet, { overload: false })
} else if (process.env.SHIELD === 'under-pressure') {
  // The event loop delay of its README.
  await app.register(underPressure, { maxEventLoopDelay: 1000, maxEventLoopUtilization: 0.98, retryAfter: 1 })
}

const busy = () => pbkdf2Sync('password', 'salt', 8_000, 32, 'sha256').length
let places = 10
const queue = []
const work = {
  cpu: async () => {
    busy()
    await sleep(1)
    return busy()
  },
  pool: async () => {
    if (places > 0) places--
    else await new Promise((resolve) => queue.push(resolve))
    await sleep(20)
    const next = queue.shift()
    if (next) next()
    else places++
    return places
  },
}[process.env.WORK]
app.get('/', async () => ({ done: await work() }))
await app.listen({ port, host: '127.0.0.1' })
listening()
