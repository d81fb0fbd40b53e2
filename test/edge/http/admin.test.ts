import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { until } from '../../helpers/until.ts'
import { front, get, pair } from '../front.ts'
import { startUpstreams } from '../upstream.ts'

const token = 'a token of at least thirty-two bytes'
const post = { method: 'POST', headers: { 'content-type': 'application/json' } } as const
const json = async (url: string, options: Parameters<typeof get>[1] = {}) => JSON.parse((await get(url, options)).text)

describe('the admin listener of a proxy', () => {
  it('serves metrics to operators and not to clients', async () => {
    const upstreams = await startUpstreams(2)
    const { url, proxy } = await front(upstreams, { admin: { port: 0 } })
    for (let i = 0; i < 4; i++) await get(`${url}/x`)
    await get(`${url}/metrics`)
    upstreams[0]?.kill()
    for (let i = 0; i < 4; i++) await get(`${url}/x`)
    const { text, headers } = await get(`${proxy.adminUrl}/metrics`)
    assert.match(String(headers['content-type']), /^text\/plain; version=0\.0\.4/)
    const value = (name: string): number =>
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${name} `))
          ?.split(' ')[1],
      )
    assert.equal(value('fleet_proxy_requests_total{code="2xx"}'), 8)
    assert.equal(value('fleet_proxy_requests_total{code="4xx"}'), 1)
    assert.equal(value('fleet_proxy_request_duration_seconds_count'), 9)
    assert.equal(value('fleet_proxy_request_duration_seconds_bucket{le="+Inf"}'), 9)
    assert.equal(value('fleet_proxy_request_duration_seconds_bucket{le="10"}'), 9)
    assert.ok(value('fleet_proxy_retries_total') >= 1)
    const host = proxy.targets[1]?.url.host
    assert.equal(value(`fleet_proxy_target_state{target="${host}",state="up"}`), 1)
    assert.ok(value(`fleet_proxy_target_attempts_total{target="${host}"}`) >= 4)
    assert.match(text, /^# TYPE fleet_proxy_request_duration_seconds histogram$/m)
    assert.equal((await get(`${url}/targets`)).status, 200, 'which is the upstream’s own path')
  })

  it('lists, drains and undrains targets', async () => {
    const { proxy } = await pair({ admin: { port: 0 } })
    const [target] = await json(`${proxy.adminUrl}/targets`)
    assert.deepEqual([target.state, target.url], ['up', proxy.targets[0]?.url.origin])
    assert.equal((await get(`${proxy.adminUrl}/ready`)).status, 200)
    const drained = await json(`${proxy.adminUrl}/targets/${target.id}/drain`, post)
    assert.equal(drained.state, 'draining')
    await json(`${proxy.adminUrl}/targets/${target.id}/undrain`, post)
    await until(async () => (await get(`${proxy.adminUrl}/ready`)).status === 200)
    for (const path of ['/targets/x/drain', '/nothing', `/targets/${target.id}/explode`]) {
      assert.equal((await get(proxy.adminUrl + path, post)).status, 404)
    }
    assert.equal((await get(`${proxy.adminUrl}/live`)).status, 200)
  })

  it('requires the token if one is set, and rejects pages of other origins', async () => {
    const { proxy } = await pair({ admin: { port: 0, token } })
    for (const headers of [{}, { authorization: 'Bearer x' }, { authorization: `Basic ${Buffer.from(token)}` }]) {
      assert.equal((await get(`${proxy.adminUrl}/metrics`, { headers })).status, 404)
    }
    const good = { authorization: `Bearer ${token}` }
    assert.equal((await get(`${proxy.adminUrl}/metrics`, { headers: good })).status, 200)
    const open = await pair({ admin: { port: 0 } })
    for (const headers of [
      { host: 'evil.example' },
      { host: '192.0.2.1' },
      { forwarded: 'for=192.0.2.1' },
      { 'sec-fetch-site': 'cross-site' },
      { origin: 'https://evil.example' },
      { 'x-forwarded-for': '1.2.3.4' },
    ]) {
      assert.equal((await get(`${open.proxy.adminUrl}/targets`, { headers })).status, 404)
    }
  })

  it('accepts commands only with a same-origin proof or a JSON content type, with and without a token', async () => {
    const bearer: Record<string, string> = { authorization: `Bearer ${token}` }
    for (const [admin, credential] of [
      [{ port: 0 }, {}],
      [{ port: 0, token }, bearer],
    ] as const) {
      const { proxy } = await pair({ admin })
      const [target] = await json(`${proxy.adminUrl}/targets`, { headers: credential })
      const drain = async (given: Record<string, string>): Promise<number> => {
        const options = { method: 'POST', headers: { ...credential, ...given } } as const
        return (await get(`${proxy.adminUrl}/targets/${target.id}/drain`, options)).status
      }
      assert.equal(await drain({}), 403)
      assert.equal(await drain({ 'content-type': 'text/plain' }), 403)
      const foreign = { origin: 'https://evil.example', 'content-type': 'application/json' }
      assert.equal(await drain(foreign), credential === bearer ? 403 : 404)
      assert.equal(proxy.targets[0]?.state, 'up')
      assert.equal(await drain({ origin: String(proxy.adminUrl) }), 200)
    }
  })

  it('takes the token of FLEET_ADMIN_TOKEN unless the option sets another', async (t) => {
    process.env.FLEET_ADMIN_TOKEN = token
    t.after(() => delete process.env.FLEET_ADMIN_TOKEN)
    const other = `another ${token}`
    for (const [admin, valid, invalid] of [
      [{ port: 0 }, token, other],
      [{ port: 0, token: other }, other, token],
    ] as const) {
      const { proxy } = await pair({ admin })
      const status = async (given: string): Promise<number> =>
        (await get(`${proxy.adminUrl}/metrics`, { headers: { authorization: `Bearer ${given}` } })).status
      assert.deepEqual([await status(valid), await status(invalid)], [200, 404])
    }
  })

  it('requires a token in production, also on loopback', async (t) => {
    process.env.NODE_ENV = 'production'
    t.after(() => delete process.env.NODE_ENV)
    await assert.rejects(pair({ admin: { port: 0 } }), { code: 'FLEET_ERR_SECRET_MISSING', message: /production/ })
  })

  it('requires a strong token if other machines can connect', async () => {
    await assert.rejects(pair({ admin: { port: 0, host: '0.0.0.0' } }), { code: 'FLEET_ERR_SECRET_MISSING' })
    await assert.rejects(pair({ admin: { port: 0, token: 'short' } }), { code: 'FLEET_ERR_SECRET_WEAK' })
  })
})
