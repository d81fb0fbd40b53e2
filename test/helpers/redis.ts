import './cleanup.ts'
import { type RedisOptions, type RedisServer, startRedis as start } from '../../src/cli/up/redis.ts'

export type { RedisServer }

/**
 * A Redis of its own for a test file; it ends with the file at the latest. Nothing persists unless `appendonly`, and nobody
 * needs a password.
 */
export const startRedis = (options: RedisOptions = {}): Promise<RedisServer> =>
  start({ appendonly: false, password: null, ...options })
