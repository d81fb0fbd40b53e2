import type { Redis } from 'ioredis'
import { FleetError } from '../../base/errors.ts'
import type { RedisClient } from './client.ts'

/** Passes while Redis responds and accepts writes. @throws FLEET_ERR_STATE_FULL with the memory in use */
export async function checkRedis(client: RedisClient): Promise<void> {
  const { nodes } = client as { nodes?: (role: 'master') => Redis[] }
  const primaries = nodes ? nodes.call(client, 'master') : [client as Redis]
  await Promise.all([client.ping(), ...primaries.map(checkMemory)])
}

async function checkMemory(node: Redis): Promise<void> {
  // If the user may not run INFO, rejected writes still report the full memory.
  const info = await node.info('memory').catch((error: Error) => {
    if (error.message.startsWith('NOPERM')) return ''
    throw error
  })
  const read = (name: string): string => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? ''
  const [used, limit] = [Number(read('used_memory')), Number(read('maxmemory'))]
  // Every other policy evicts keys instead of rejecting writes.
  if (limit > 0 && used > limit && read('maxmemory_policy') === 'noeviction')
    throw new FleetError('FLEET_ERR_STATE_FULL', `Redis uses ${used} of ${limit} bytes (maxmemory)`)
}
