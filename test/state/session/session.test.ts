import { startRedis } from '../../helpers/redis.ts'
import { contract } from './contract.ts'

let server: ReturnType<typeof startRedis> | undefined

contract('memory', async () => ({ client: null }))
const shared = async (): Promise<{ url: string }> => {
  server ??= startRedis()
  return { url: (await server).url }
}
contract('redis', shared)
contract('redis', shared, { track: true })
