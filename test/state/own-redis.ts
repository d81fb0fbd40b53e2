import { after, before } from 'node:test'
import { Redis } from 'ioredis'
import { type RedisServer, startRedis } from '../helpers/redis.ts'

/** Available once the hooks of the tests have started. */
export interface OwnRedis {
  readonly server: RedisServer
  /** A client for the tests themselves. */
  readonly client: Redis
}

/** A Redis for the tests of one `describe`, with a client. */
export function ownRedis(): OwnRedis {
  let own: OwnRedis | undefined
  const there = (): OwnRedis => {
    if (own) return own
    throw new Error('not before the hooks')
  }
  before(async () => {
    const server = await startRedis()
    own = { server, client: new Redis(server.url) }
  })
  after(() => own?.client.disconnect())
  return {
    get server() {
      return there().server
    },
    get client() {
      return there().client
    },
  }
}
