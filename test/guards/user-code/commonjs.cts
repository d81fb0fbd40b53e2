import Fastify from 'fastify'
import fleet, { clientKey, type FleetOptions } from 'fastify-fleet'
import { Balancer } from 'fastify-fleet/balancer'

const options: FleetOptions = { name: 'shop' }

async function main(): Promise<void> {
  const app = Fastify()
  await app.register(fleet, options)
  app.get('/', async (request) => ({ id: app.fleet.instance.id, key: clientKey(request) }))
  await app.ready()
  const { statusCode, json } = await app.inject('/')
  console.log(statusCode, typeof json().id, typeof Balancer)
  await app.close()
}

main()
