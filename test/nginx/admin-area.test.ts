import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import Fastify from 'fastify'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { fleet } from '../../src/fleet.ts'
import { freePort } from '../helpers/free-port.ts'
import { type FrontResponse, sendRequest, startFront } from './front.ts'

test('through the admin area, a form of another site cannot drain an instance and the dashboard can', async () => {
  const [listen, management] = [await freePort(), await freePort()]
  const folder = temporaryFolder('passwords')
  chmodSync(folder, 0o711)
  const passwords = join(folder, 'operators.htpasswd')
  writeFileSync(passwords, `ops:{SHA}${createHash('sha1').update('right').digest('base64')}\n`, { mode: 0o644 })
  const token = 'a token of at least thirty-two bytes'
  const instance = Fastify()
  after(() => instance.close())
  await instance.register(fleet, {
    lifecycle: { signals: false },
    redis: { client: null },
    operators: { token, listen: { port: management } },
  })
  const port = new URL(await instance.listen({ port: 0, host: '127.0.0.1' })).port
  await startFront({
    FLEET_TARGETS: `127.0.0.1:${port}`,
    FLEET_ADMIN: 'on',
    FLEET_ADMIN_TARGETS: `127.0.0.1:${management}`,
    FLEET_ADMIN_LISTEN: `127.0.0.1:${listen}`,
    FLEET_ADMIN_PASSWORDS: passwords,
    FLEET_ADMIN_TOKEN: token,
  })
  const own = `http://127.0.0.1:${listen}`
  const drain = (path: string, headers: Record<string, string>): Promise<FrontResponse> =>
    sendRequest(listen, path, {
      method: 'POST',
      body: JSON.stringify({ instance: instance.fleet.instance.id }),
      headers: { authorization: `Basic ${Buffer.from('ops:right').toString('base64')}`, ...headers },
    })
  const foreign = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }
  for (const path of ['/api/v1/load-balancer/drain', '/fleet/drain']) {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/json']) {
      const rejected = await drain(path, { ...foreign, 'content-type': type })
      assert.equal(rejected.status, 403, `${path} ${type}`)
      assert.match(rejected.body, /FLEET_ERR_ORIGIN_UNPROVEN/)
    }
    assert.equal((await drain(path, { origin: `http://127.0.0.1:${port}`, 'content-type': 'text/plain' })).status, 403)
    assert.equal(instance.fleet.state, 'serving')
    const page = { origin: own, 'sec-fetch-site': 'same-origin', 'content-type': 'application/json' }
    assert.ok([200, 202].includes((await drain(path, page)).status))
    assert.equal(instance.fleet.state, 'draining')
    instance.fleet.undrain()
  }
})
