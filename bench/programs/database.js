// `SUBJECT`: a way to read. Asked by HTTP for a number of reads, it answers with the CPU time of one, in µs.
import { createServer } from 'node:http'
import { PrismaPg } from '@prisma/adapter-pg'
import { readReplicas } from '@prisma/extension-read-replicas'
import { pools, replicas } from 'fastify-fleet/database'
import pg from 'pg'
import { listening, port } from './hello.js'

const { SUBJECT, PRIMARY_URL, REPLICA_URL, CLIENT } = process.env
const { PrismaClient } = await import(CLIENT)
const plain = (url) => new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max: 10 }) })

async function open() {
  if (SUBJECT === 'bare') return plain(REPLICA_URL)
  if (SUBJECT === 'peer') return plain(PRIMARY_URL).$extends(readReplicas({ replicas: [plain(REPLICA_URL)] }))
  const pool = SUBJECT === 'pools' ? await pools({ max: 10, driver: pg }) : undefined
  const connect = (url, name) => (pool ? new PrismaClient({ adapter: new PrismaPg(pool.open(url, name)) }) : plain(url))
  const prisma = connect(PRIMARY_URL).$extends(replicas({ connect, urls: [REPLICA_URL] }))
  while (!prisma.$routing().set.available) await new Promise((resolve) => setTimeout(resolve, 20))
  return prisma
}

const prisma = await open()
const where = { id: '00000000-0000-7000-8000-000000000001' }
const select = { id: true, email: true, name: true }
async function reader(count) {
  for (let i = 0; i < count; i++) await prisma.user.findUnique({ where, select })
}
async function round(count, readers) {
  const before = process.cpuUsage()
  await Promise.all(Array.from({ length: readers }, () => reader(Math.ceil(count / readers))))
  const { user, system } = process.cpuUsage(before)
  return { cpu: (user + system) / count }
}

await round(2_000, 1)
await round(2_000, 20)
createServer(async (request, response) => {
  const searchParams = new URLSearchParams(request.url.split('?')[1])
  response.end(JSON.stringify(await round(Number(searchParams.get('reads')), Number(searchParams.get('readers')))))
}).listen(port, '127.0.0.1', listening)
