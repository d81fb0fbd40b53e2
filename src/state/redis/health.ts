import type { Redis } from 'ioredis'
import { FleetError } from '../../base/errors.ts'
import { watchCommands } from '../../base/internals/ioredis.ts'
import type { RedisClient } from './client.ts'

/** Passes while Redis responds and accepts writes. @throws FLEET_ERR_STATE_FULL with the memory in use */
export async function checkRedis(client: RedisClient): Promise<void> {
  const { nodes } = client as { nodes?: (role: 'master') => Redis[] }
  const primaries = nodes ? nodes.call(client, 'master') : [client as Redis]
  await Promise.all([client.ping(), ...primaries.map(checkMemory)]).catch(explain)
}

/** ioredis reports a command without a connection by its own options. */
function explain(error: Error): never {
  throw error.message.includes('enableOfflineQueue') ? new Error('not connected', { cause: error }) : error
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

/** Replies of a server that cannot serve now. Others, such as WRONGTYPE, are about the command. */
const cannotServe = /^(?:READONLY|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|MISCONF|BUSY|TRYAGAIN) |(?:^|-)OOM /

/**
 * Calls `failed` when a command fails because of the server, and when a connection is lost, which happens to the first
 * command without a reply in time. Of an app's own client, only lost connections are seen.
 */
export function watchFailures(client: RedisClient, isOwn: boolean, failed: (error: Error) => void): void {
  client.on('close', () => failed(new Error('the connection was lost')))
  client.on('node error', failed)
  if (!isOwn) return
  watchCommands(client, (error) => {
    if (error.name !== 'ReplyError' || cannotServe.test(error.message)) failed(error)
  })
}
