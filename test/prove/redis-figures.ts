import type { Redis } from 'ioredis'

/** What a Redis server has done since its start, and what it holds. */
export interface RedisFigures {
  /** CPU time, µs. */
  readonly cpu: number
  /** Bytes received and sent. */
  readonly bytes: number
  readonly commands: number
  /** Memory in use, bytes. */
  readonly memory: number
  readonly keys: number
}

export async function redisFigures(client: Redis): Promise<RedisFigures> {
  const info = String(await client.info('all'))
  const read = (name: string): number => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1])
  return {
    cpu: (read('used_cpu_user') + read('used_cpu_sys')) * 1e6,
    bytes: read('total_net_input_bytes') + read('total_net_output_bytes'),
    commands: read('total_commands_processed'),
    memory: read('used_memory'),
    keys: await client.dbsize(),
  }
}
