import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startRedis } from '../../helpers/redis.ts'
import { build } from './app.ts'
import { Browser } from './browser.ts'
import { contract } from './contract.ts'

let server: ReturnType<typeof startRedis> | undefined

contract('memory', async () => ({ client: null }))
const shared = async (): Promise<{ url: string }> => {
  server ??= startRedis()
  return { url: (await server).url }
}
contract('redis', shared)
contract('redis', shared, { track: true })

for (const [engine, where] of [['memory', async () => ({ client: null })] as const, ['redis', shared] as const])
  test(`${engine}: what cannot be saved under a new id stays under the old one`, async () => {
    const app = await build(await where())
    app.get('/regenerate', async ({ session }) => {
      session.odd = 1n
      await session.regenerate(['odd'])
    })
    const browser = new Browser()
    await browser.post(app, '/set', { a: 1 })
    const response = await browser.get(app, '/regenerate')
    assert.equal(response.json().code, 'FLEET_ERR_SESSION_VALUE_INVALID')
    assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
    await app.close()
  })
