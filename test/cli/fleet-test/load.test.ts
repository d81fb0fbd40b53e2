import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  byName,
  type CheckContext,
  instancesIn,
  outcomes,
  rounds,
  succeeded,
  wanted,
} from '../../../src/cli/smoke/context.ts'
import { describe as describeFit, load, percentile } from '../../../src/cli/smoke/load.ts'
import type { Distribution } from '../../../src/cli/smoke/report.ts'
import { context, from, peer, recorder, response } from './stand-ins.ts'

function check(given: Partial<CheckContext>): { said: string[]; distribution: Distribution } {
  const { results, said } = recorder()
  const distribution = load(context(given), results)
  return { said: said(), distribution }
}

describe('load', () => {
  it('passes an even split among all expected instances', () => {
    const { said, distribution } = check({ sample: from({ a: 10, b: 10, c: 10 }), expected: 3 })
    assert.deepEqual(said, [
      'pass 30 requests to /health, none failed',
      'pass 3 instances responded, as many as expected',
      'pass shares follow the even split: 10, 10, 10 (χ²(2) = 0.00, p = 1.0000)',
    ])
    assert.deepEqual([distribution.requests, distribution.failed], [30, 0])
    const share = { requests: 10, expected: 10, p50: 1, p95: 1 }
    assert.deepEqual(
      distribution.shares,
      ['a', 'b', 'c'].map((instanceId) => ({ instanceId, ...share })),
    )
  })

  it('fails when a response failed, and knows a rate limit', () => {
    const sample = [...from({ a: 10, b: 10 }), response({ status: 502 }), response({ error: 'ECONNRESET', status: 0 })]
    const { said, distribution } = check({ sample, expected: 2 })
    assert.deepEqual(said.slice(0, 2), [
      'fail 2 of 22 requests to /health failed: 1 × 502, 1 × ECONNRESET',
      '→ see the front’s log',
    ])
    assert.deepEqual([distribution.requests, distribution.failed], [22, 2])
    assert.deepEqual(
      distribution.shares.map(({ requests }) => requests),
      [10, 10],
    )
    const limited = check({ sample: [...from({ a: 5, b: 5 }), response({ status: 429 })], expected: 2 })
    assert.match(limited.said[1] ?? '', /^→ the front limits the rate/)
    const mixed = check({ sample: [response({ status: 429 }), response({ status: 503 })] })
    assert.equal(mixed.said[1], '→ see the front’s log')
  })

  it('fails when an instance is missing, by name or by number', () => {
    const sample = from({ a: 10, b: 10 })
    const peers = [peer('a'), peer('b'), peer('c'), peer('d', { weight: 0 })]
    const named = check({ sample, peers }).said
    assert.deepEqual(named.slice(1, 3), [
      'fail 2 of 3 instances responded; missing: c',
      '→ check that the front has every instance as a target, and that each is ready',
    ])
    assert.equal(check({ sample, expected: 3 }).said[1], 'fail 2 of 3 instances responded')
    const one = check({ sample: from({ a: 10 }), expected: 2 }).said
    assert.equal(one[2], '→ the front may be sticky by client address, or have only one target')
    const unknown = check({ sample: from({ a: 10 }) }).said
    assert.deepEqual(unknown.slice(1), [
      'fail one instance responded, and the expected number is unknown',
      '→ pass --instances or --token',
    ])
    const anonymous = check({ sample: [response(), response()], expected: 2 }).said
    assert.match(anonymous[1] ?? '', /^fail no response identifies its instance/)
  })

  it('passes more instances than expected, and says so', () => {
    const { said } = check({ sample: from({ a: 10, b: 10 }), expected: 1 })
    assert.equal(said[1], 'pass 2 instances responded, as many as expected')
    assert.equal(said[2], 'info 2 instances responded, more than the 1 expected')
    assert.equal(check({ sample: from({ a: 10, b: 10 }) }).said[1], 'pass 2 instances responded')
    assert.equal(
      check({ sample: from({ a: 10 }), expected: 1 }).said[1],
      'pass 1 instance responded, as many as expected',
    )
  })

  it('compares the shares with the weights, and counts a silent instance as 0', () => {
    const weights = [peer('a', { weight: 200 }), peer('b'), peer('c')]
    const followed = check({ sample: from({ a: 40, b: 20, c: 20 }), peers: weights })
    assert.match(followed.said[2] ?? '', /^pass shares follow the weights: 40, 20, 20/)
    assert.deepEqual(
      followed.distribution.shares.map(({ expected }) => expected),
      [40, 20, 20],
    )
    const ignored = check({ sample: from({ a: 80, b: 80, c: 80 }), peers: weights }).said
    assert.match(ignored[2] ?? '', /^fail the load is even though weights differ: 80, 80, 80/)
    const uneven = check({ sample: from({ a: 80, b: 10, c: 10 }), peers: [peer('a'), peer('b'), peer('c')] }).said
    assert.match(uneven[2] ?? '', /^fail the load is uneven: 80, 10, 10/)
    const silent = check({ sample: from({ a: 40, b: 40 }), peers: [peer('a'), peer('b'), peer('c')] })
    assert.deepEqual(
      silent.distribution.shares.map(({ requests }) => requests),
      [40, 40, 0],
    )
  })

  it('calls shares uneven if a correct front has them less often than once in a thousand runs', () => {
    const uneven = (a: number, b: number): string => check({ sample: from({ a, b }), expected: 2 }).said[2] ?? ''
    assert.match(uneven(60, 40), /^pass shares follow the even split: 60, 40 \(χ²\(1\) = 4\.00, p = 0\.0455\)/)
    assert.match(uneven(66, 34), /^pass .* p = 0\.0014\)/)
    assert.match(uneven(67, 33), /^fail the load is uneven: 67, 33 .* p = 0\.0007\)/)
  })

  it('says which instances came or went, as in a reload', () => {
    const sample = [...from({ a: 20, b: 20 }), ...from({ b: 60, c: 60 }), ...from({ c: 20, d: 20 })]
    assert.deepEqual(check({ sample, expected: 4 }).said.slice(2), [
      'fail instances came or went during the test: a responded until request 39, b responded until request 159, c responded from request 42 on, d responded from request 162 on; shares: 20, 80, 80, 20',
      '→ run the test again while no instance is reloaded, deployed or restarted',
    ])
    // An instance with a tenth of 200 responses is out of the first 87 once in 10,000 runs: 0.9 ^ 87.4 = 1 / 10,000.
    const late = (silence: number): string => {
      const rest = [response({ instanceId: 'b' }), ...from({ a: 180 - silence, b: 19 })]
      return check({ sample: [...from({ a: silence }), ...rest], expected: 2 }).said[2] ?? ''
    }
    assert.match(late(87), /^fail the load is uneven: 180, 20/)
    assert.match(
      late(88),
      /^fail instances came or went during the test: b responded from request 89 on; shares: 180, 20$/,
    )
  })

  it('compares the p95 of the successful responses with the limit', () => {
    const times = (count: number) => Array.from({ length: count }, (_, i) => response({ instanceId: 'a', ms: i + 1 }))
    const slow = response({ instanceId: 'a', status: 500, ms: 9_000 })
    const limited = (maxP95: number, sample = [...times(20), slow]) => check({ sample, expected: 1, maxP95 })
    assert.equal(limited(19).distribution.p95, 19)
    assert.equal(limited(19).said[2], 'pass p95 of 20 responses: 19.0 ms, at most 19 ms')
    assert.deepEqual(limited(18).said.slice(2, 4), [
      'fail p95 of 20 responses: 19.0 ms, above the 18 ms of --max-p95',
      '→ compare with `fleet bench`, and from nearer',
    ])
    assert.equal(limited(600_000, [slow]).said[2], 'fail no response to measure for --max-p95')
  })

  it('passes as many failures as are allowed, and none by default', () => {
    const failing = (failed: number, maxErrorRate?: number): string =>
      check({ sample: [...from({ a: 100 - failed }), ...from({ a: failed }, { status: 503 })], maxErrorRate })
        .said[0] ?? ''
    assert.equal(
      failing(2, 0.02),
      'pass 2 of 100 requests to /health failed: 2 × 503; 2 %, which --max-error-rate allows',
    )
    const third = check({ sample: [...from({ a: 2 }), response({ status: 503 })], maxErrorRate: 0.5 }).said[0]
    assert.match(third ?? '', / 33\.33 %, which/)
    const half = check({ sample: [...from({ a: 49 }), response({ status: 503 })], maxErrorRate: 0.01 }).said[0]
    assert.equal(half, 'fail 1 of 50 requests to /health failed: 1 × 503', 'half a request may fail')
    assert.equal(failing(3, 0.02), 'fail 3 of 100 requests to /health failed: 3 × 503')
    assert.equal(failing(1), 'fail 1 of 100 requests to /health failed: 1 × 503')
  })

  it('skips the shares with too few requests for each instance', () => {
    assert.deepEqual(check({ sample: from({ a: 4, b: 5 }), expected: 2 }).said.slice(2), [
      'skip too few requests to test the shares: 4, 5',
      '→ increase --requests',
    ])
    assert.match(check({ sample: from({ a: 5, b: 5 }), expected: 2 }).said[2] ?? '', /^pass/)
  })

  it('leaves an instance of weight 0 out, and tells that it handled requests', () => {
    const peers = [peer('a'), peer('b'), peer('z', { weight: 0 })]
    const { said, distribution } = check({ sample: from({ a: 10, b: 10, z: 1 }), peers })
    assert.equal(said[2], 'info z has weight 0 but handled 1 request')
    assert.deepEqual(
      distribution.shares.map(({ instanceId }) => instanceId),
      ['a', 'b'],
    )
  })

  it('measures each instance by its own responses, in the order of their numbers', () => {
    const timed = (instanceId: string, ...times: number[]) => times.map((ms) => response({ instanceId, ms }))
    const sample = [
      ...timed('api-10', 5, 1, 3),
      ...timed('api-2', 100),
      response({ instanceId: 'api-2', status: 500, ms: 9_000 }),
    ]
    const { distribution } = check({ sample })
    assert.deepEqual(
      distribution.shares.map(({ instanceId, p50, p95 }) => [instanceId, p50, p95]),
      [
        ['api-2', 100, 100],
        ['api-10', 3, 5],
      ],
    )
  })
})

it('percentile is by nearest rank, and 0 without values', () => {
  const values = [50, 10, 40, 20, 30]
  assert.deepEqual(
    [0, 0.2, 0.21, 0.5, 0.8, 0.81, 1].map((share) => percentile(values, share)),
    [10, 10, 20, 30, 40, 50, 50],
  )
  assert.equal(percentile([], 0.5), 0)
  assert.deepEqual(values, [50, 10, 40, 20, 30])
})

it('describes a fit, with a small probability as a power', () => {
  const fit = { statistic: 1.239, degreesOfFreedom: 2, reliable: true }
  assert.equal(describeFit({ ...fit, p: 0.12345 }), 'χ²(2) = 1.24, p = 0.1235')
  assert.equal(describeFit({ ...fit, p: 0.0001 }), 'χ²(2) = 1.24, p = 0.0001')
  assert.equal(describeFit({ ...fit, p: 0.00009 }), 'χ²(2) = 1.24, p = 9.0e-5')
})

describe('the sample', () => {
  it('is counted by instance, the most frequent first', () => {
    assert.deepEqual(
      [...instancesIn([...from({ a: 1, b: 3, c: 2 }), response()])],
      [
        ['b', 3],
        ['c', 2],
        ['a', 1],
      ],
    )
  })

  it('decides how many instances to reach, unless that is known, and how often to try', () => {
    assert.equal(wanted(context({ sample: from({ a: 1, b: 1 }) })), 2)
    assert.equal(wanted(context({ sample: from({ a: 1, b: 1 }), expected: 5 })), 5)
    assert.equal(wanted(context()), 1)
    assert.deepEqual([1, 2, 3, 10].map(rounds), [24, 24, 36, 120])
  })

  it('succeeded with 2xx only', () => {
    const statuses = [0, 199, 200, 299, 300, 404]
    assert.deepEqual(
      statuses.filter((status) => succeeded(response({ status }))),
      [200, 299],
    )
    assert.equal(
      outcomes([response({ status: 502 }), response({ status: 0, error: 'X' }), response({ status: 502 })]),
      '2 × 502, 1 × X',
    )
  })

  it('is sorted by number', () => {
    assert.deepEqual(['api-10', 'api-2', 'web'].sort(byName), ['api-2', 'api-10', 'web'])
  })
})
