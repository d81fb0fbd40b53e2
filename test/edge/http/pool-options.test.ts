import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type PoolOptions, resolvePools } from '../../../src/edge/http/pool-options.ts'

const targets = ['http://127.0.0.1:1']
const discover = () => () => undefined
const resolve = (pools: Record<string, PoolOptions>, given?: readonly string[], common: object = {}) =>
  resolvePools({ pools, maxBodyBytes: 1_000 }, given, common)

describe('the options of pools', () => {
  it('need targets of the pool default, or a source of them, or other pools', () => {
    const needed = { code: 'FLEET_ERR_OPTION_INVALID', message: /needs `targets`, `discover` or `pools`/ }
    assert.throws(() => resolve({}), needed)
    for (const pools of [resolve({}, targets), resolve({}, undefined, { discover }), resolve({ default: {} })])
      assert.deepEqual(
        pools.map(({ name }) => name),
        ['default'],
      )
    assert.deepEqual(
      resolve({ v2: { targets } }).map(({ name, targets }) => [name, targets]),
      [
        ['default', []],
        ['v2', targets],
      ],
    )
  })

  it('have one list of targets and a valid name', () => {
    assert.throws(() => resolve({ default: { targets } }, targets), { message: /both set; remove one of them/ })
    assert.deepEqual(resolve({ default: { targets } })[0]?.targets, targets)
    assert.throws(() => resolve({ 'v 2': {} }, targets), { message: /`proxy\.pools\.v 2` must have a name of/ })
  })

  it('replace those of the proxy one by one; another pool has its own targets and cookie', () => {
    const common = { discover, hedgeMs: 5, queue: { size: 1, timeoutMs: 2 }, sticky: { cookie: 'lb', secure: true } }
    const own = { maxBodyBytes: 0, maintenance: true, hedgeMs: undefined, queue: { size: 9 } }
    const [base, v2] = resolve({ v2: own }, targets, common)
    assert.deepEqual(base, {
      ...{ name: 'default', targets, balancer: common, maxBodyBytes: 1_000, maintenance: false },
    })
    assert.deepEqual(v2, {
      ...{ name: 'v2', targets: [], maxBodyBytes: 0, maintenance: true },
      balancer: { hedgeMs: 5, queue: { size: 9, timeoutMs: 2 }, sticky: { cookie: 'lb_v2', secure: true } },
    })
    const named = resolve({ default: { sticky: { secure: false } }, v2: {} }, targets, { sticky: {} })
    assert.deepEqual(
      named.map(({ balancer }) => balancer.sticky),
      [{ secure: false }, { cookie: 'fleet_target_v2' }],
    )
  })
})
