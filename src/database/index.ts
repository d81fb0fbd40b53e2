/**
 * PostgreSQL through Prisma. `database.ts` is the Fastify plugin (decorator, health check, read-your-writes). `pools.ts`
 * has bounded connection pools. `replicas.ts` is the Prisma extension that sends reads to replicas: `router.ts` chooses a
 * server by the table in `routing.ts`, `replica-set.ts` and `watch.ts` track health and lag of the replicas, and
 * `own-writes.ts` carries a client's write position from request to request. `migrate.ts` applies Prisma's migrations.
 */
export {
  type DatabaseClient,
  type DatabaseOptions,
  database,
  database as default,
  type OwnWritesOptions,
} from './database.ts'
export { databaseError } from './errors.ts'
export { type MigrateOptions, type MigrateResult, migrate } from './migrate.ts'
export { type PoolState, Pools, type PoolsOptions, pools } from './pools.ts'
export { type ReplicasExtension, type ReplicasOptions, replicas } from './replicas.ts'
