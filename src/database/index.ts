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
