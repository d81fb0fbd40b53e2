import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import { fromDns } from '../../../src/edge/balancer/discovery.ts'

const [server = ''] = process.argv.slice(2)
const balancer = new Balancer([], { discover: fromDns('http://app.test:3000', { servers: [server] }) })
await balancer.ready()
console.log('ready')
await balancer.close()
