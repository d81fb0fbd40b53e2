// Argument: a policy. Prints CPU µs per pick at 10, 100 and 1,000 targets, and ends.
import { stdout } from 'node:process'

const edge = (file) => import(new URL(`../node_modules/fastify-fleet/dist/edge/balancer/${file}`, import.meta.url).href)
const { Balancer } = await edge('balancer.js')
const { createPolicy } = await edge('policies/index.js')
const { Rotation } = await edge('rotation.js')
const { Target } = await edge('target.js')

const name = process.argv[2]
const secret = 'only-for-benchmarks-and-at-least-32-bytes'
const { options: settings } = new Balancer([], { sticky: { secret } })
// Answers at once, so that what is measured is the policy and not the network.
const probe = async ({ inflight }) => ({ inflight, latencyMs: 5 })

function rotationOf(count) {
  const rotation = new Rotation(createPolicy(name, settings, probe), settings)
  for (let i = 0; i < count; i++) {
    const target = new Target({ url: `http://10.${i >> 8}.${i & 255}.1:3000` }, settings.connections)
    rotation.add(target)
    rotation.move(target, 'up')
  }
  return rotation
}

const tried = []
// A client that was here before: who is new costs what the fallback policy costs.
const cookieOf = ({ setCookie = '' }) => setCookie.split(';', 1)[0]

/** As a front does it: 50 requests in flight, each pick followed by the end of the oldest. */
async function time(rotation, picks) {
  const first = { client: '', headers: {} }
  rotation.choose(first, tried)
  const headers = { cookie: cookieOf(first) }
  const open = []
  const begin = process.cpuUsage()
  for (let done = 0; done < picks; done += 100) {
    const now = performance.now()
    for (let i = 0; i < 100; i++) {
      const target = rotation.choose({ client: `192.0.2.${i}`, headers }, tried)
      rotation.begin(target)
      target.latency.observe(5 + (i % 7), now)
      open.push(target)
      if (open.length > 50) rotation.end(open.shift())
    }
    // Policies that ask do it between requests.
    await null
  }
  const { user, system } = process.cpuUsage(begin)
  return (user + system) / picks
}

const figures = {}
for (const count of [10, 100, 1000]) {
  const rotation = rotationOf(count)
  await time(rotation, 50_000)
  figures[`at${count}`] = await time(rotation, 200_000)
}
stdout.write(`${JSON.stringify(figures)}\n`)
process.exit()
