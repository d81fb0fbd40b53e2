import './cleanup.ts'
import { type RedisOptions, type RedisServer, startRedis as start } from '../../src/cli/up/redis.ts'

export type { RedisServer }

/**
 * Starts a Redis for a test file, stopped at the end of the file at the latest. Without persistence unless `appendonly`, and
 * without a password. With `appendonly` it keeps across SIGKILL whatever it has confirmed: by default Redis holds writes back for up to
 * two seconds while the disk is busy.
 */
export const startRedis = ({ args = [], ...options }: RedisOptions = {}): Promise<RedisServer> =>
  start({
    appendonly: false,
    password: null,
    ...options,
    args: options.appendonly ? ['--appendfsync', 'always', ...args] : args,
  })
