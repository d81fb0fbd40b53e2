// The data of the reference application: users and products behind one interface.
//   data.ts    the contract, `Data`, and the types of its records
//   prisma.ts  PostgreSQL through Prisma, with read replicas; loaded only if DATABASE_URL is set
//   memory.ts  the same in this process, for development; every instance then has its own data
// Routes use `app.data` and do not know which of the two it is.
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { database } from '../../database/index.ts'
import { FleetError, readEnv } from '../../index.ts'
import type { Data } from './data.ts'
import { memoryData } from './memory.ts'

export type { Data, NewProduct, Page, Product, Summary, User } from './data.ts'

declare module 'fastify' {
  interface FastifyInstance {
    data: Data
  }
}

function notGenerated(cause: NodeJS.ErrnoException): never {
  if (cause.code !== 'ERR_MODULE_NOT_FOUND') throw cause
  throw new FleetError('FLEET_ERR_PACKAGE_MISSING', 'the Prisma client; generate it with: npm run prepare', { cause })
}

const plugin: FastifyPluginAsync = async (app) => {
  const { DATABASE_URL, FLEET_ALLOW_MEMORY, production } = readEnv()
  if (DATABASE_URL !== undefined) {
    // Loaded here only: without a database neither Prisma nor its generated client has to be installed.
    const { open, prismaData } = await import('./prisma.ts').catch(notGenerated)
    const { client, pools } = await open(DATABASE_URL, (replica, healthy) => {
      if (healthy) app.log.info({ replica }, 'database: the replica responds')
      else app.log.warn({ replica }, 'database: the replica does not respond; reads use other databases')
    })
    await app.register(database, { client: () => client, pools })
    app.decorate('data', prismaData(client))
    app.fleet.describe('dataStore', 'postgresql')
    return
  }
  if (production && !FLEET_ALLOW_MEMORY)
    throw new FleetError('FLEET_ERR_MEMORY_IN_PRODUCTION', 'set DATABASE_URL, or FLEET_ALLOW_MEMORY=1')
  app.log.warn('data: DATABASE_URL is not set; users and products are stored in the memory of this process')
  app.decorate('data', await memoryData({ seeded: !production }))
  app.fleet.describe('dataStore', 'memory')
}

/** Decorates `app.data`: PostgreSQL if DATABASE_URL is set, else the memory of this process. */
export const data: FastifyPluginAsync = fp(plugin, { name: 'app-data', dependencies: ['fastify-fleet'] })
