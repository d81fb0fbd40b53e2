import { after, before } from 'node:test'
import { Redis, type RedisOptions } from 'ioredis'
import { type RedisServer, startRedis } from '../helpers/redis.ts'

/** Available once the tests' `before` hooks run. */
export interface OwnRedis {
  readonly server: RedisServer
  /** A client for the tests themselves. */
  readonly client: Redis
}

/** A Redis with a client, for the tests of one `describe` or one file. */
export function ownRedis(options: RedisOptions = {}): OwnRedis {
  let own: OwnRedis | undefined
  const started = (): OwnRedis => {
    if (own) return own
    throw new Error('ownRedis() is not available before the hooks')
  }
  before(async () => {
    const server = await startRedis()
    own = { server, client: new Redis(server.url, options) }
  })
  after(() => own?.client.disconnect())
  return {
    get server() {
      return started().server
    },
    get client() {
      return started().client
    },
  }
}

/** `app.redisKey` for stores that are tested without an app. */
export const testKey = (kind: string, id: string): string => `test:${kind}:{${id}}`
