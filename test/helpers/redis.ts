import './cleanup.ts'
import { type RedisOptions, type RedisServer, startRedis as start } from '../../src/cli/up/redis.ts'

export type { RedisServer }

/**
 * Starts a Redis for a test file, stopped at the end of the file at the latest. Without persistence unless `appendonly`, and
 * without a password.
 */
export const startRedis = (options: RedisOptions = {}): Promise<RedisServer> =>
  start({ appendonly: false, password: null, ...options })
