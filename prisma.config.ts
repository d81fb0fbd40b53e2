import { defineConfig } from 'prisma/config'

// Read by the Prisma CLI alone. Generating needs no database, so a missing address is no error here.
export default defineConfig({
  schema: 'prisma/schema.prisma',
  migrations: { path: 'prisma/migrations', seed: 'node prisma/seed.ts' },
  datasource: { url: process.env.DATABASE_URL ?? '' },
})
