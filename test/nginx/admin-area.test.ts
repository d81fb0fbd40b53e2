import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { chmodSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { after, test } from 'node:test'
import Fastify from 'fastify'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { nginxFront } from '../../src/cli/up/nginx.ts'
import { fleet } from '../../src/fleet.ts'
import { startListening } from '../edge/listening.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'
import { type FrontResponse, nginx, sendRequest, startFront } from './front.ts'

const token = 'a token of at least thirty-two bytes'
const login = { authorization: `Basic ${Buffer.from('ops:right').toString('base64')}` }

/** The file with this login, which the workers of nginx can read. */
function passwordFile(): string {
  const folder = temporaryFolder('passwords')
  chmodSync(folder, 0o711)
  const passwords = join(folder, 'operators.htpasswd')
  writeFileSync(passwords, `ops:{SHA}${createHash('sha1').update('right').digest('base64')}\n`, { mode: 0o644 })
  return passwords
}

test('through the admin area, a form of another site cannot drain an instance and the dashboard can', async () => {
  const [listen, management] = [await freePort(), await freePort()]
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
    FLEET_ADMIN_PASSWORDS: passwordFile(),
    FLEET_ADMIN_TOKEN: token,
  })
  const own = `http://127.0.0.1:${listen}`
  const drain = (path: string, headers: Record<string, string>): Promise<FrontResponse> =>
    sendRequest(listen, path, {
      method: 'POST',
      body: JSON.stringify({ instance: instance.fleet.instance.id }),
      headers: { ...login, ...headers },
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

test('the admin area of fleet up leads to the ports for operators of its instances, with their token', async (t) => {
  const [port, listen, instance] = [await freePort(), await freePort(), await freePort()]
  const given: (string | undefined)[] = []
  const operators = createServer(({ headers: { authorization } }, response) => {
    given.push(authorization)
    response.end('for operators')
  })
  const before = process.env
  process.env = {
    ...before,
    ...{ FLEET_ADMIN: 'on', FLEET_ADMIN_LISTEN: `127.0.0.1:${listen}`, FLEET_ADMIN_PASSWORDS: passwordFile() },
  }
  t.after(() => {
    process.env = before
  })
  const plan = { port, instances: [instance], operators: [await startListening(operators)], drainDelayMs: 0 }
  const front = await nginxFront.start({ ...plan, adminToken: token }, { program: await nginx(), install: false })
  t.after(() => front.stop())
  // nginx listens on one port after the other.
  const responds = () => sendRequest(listen, '/metrics', { headers: login })
  const { status, body } = await until(responds, { what: 'the admin area' })
  assert.deepEqual([status, body, given], [200, 'for operators', [`Bearer ${token}`]])
})
