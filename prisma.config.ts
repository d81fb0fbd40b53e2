import { defineConfig } from 'prisma/config'

// Read by the Prisma CLI alone, which also runs where `src` is not installed. Generating needs no database, so a missing
// address is no error here.
const { DATABASE_URL = '', DATABASE_URL_FILE } = process.env
const url =
  DATABASE_URL || !DATABASE_URL_FILE ? DATABASE_URL : (await import('./src/base/env.ts')).readEnv().DATABASE_URL

export default defineConfig({
  schema: 'prisma/schema.prisma',
  migrations: { path: 'prisma/migrations', seed: 'node prisma/seed.ts' },
  datasource: { url: url ?? '' },
})
