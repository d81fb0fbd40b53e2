import { after, before } from 'node:test'
import type { Data } from '../../src/app/data/index.ts'
import { memoryData } from '../../src/app/data/memory.ts'
import { type Database, open, prismaData } from '../../src/app/data/prisma.ts'
import { startPostgres } from '../helpers/postgres.ts'
import { dataContract } from './data.contract.ts'
import { migrated } from './instances.ts'

let database: Database
let data: Data
before(async () => {
  const { url } = await startPostgres()
  await migrated(url)
  database = (await open(url, () => {})).client
  data = prismaData(database)
})
after(() => database.$disconnect())

dataContract('PostgreSQL', async () => data)
dataContract('memory', () => memoryData({ seeded: true }))
