import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { examine } from '../../src/cli/doctor/run.ts'
import { root } from '../cli/doctor/project.ts'
import { copy, initialise, messageOf, outputs, plan, terraform } from './terraform.ts'

const files = readdirSync(join(root, 'deploy/aws'))
  .filter((name) => name.endsWith('.tf'))
  .map((name) => join(root, 'deploy/aws', name))

const required = {
  region: 'eu-central-1',
  domain: 'shop.example.com',
  image: 'app:1',
  vpc_id: 'vpc-1',
  public_subnet_ids: ['subnet-1', 'subnet-2'],
  private_subnet_ids: ['subnet-3', 'subnet-4'],
  certificate_arn: 'arn:aws:acm:eu-central-1:123456789012:certificate/x',
  zone_id: 'Z1',
  secrets: Object.fromEntries(
    ['SESSION_SECRET', 'JWT_SECRET', 'FLEET_ADMIN_TOKEN', 'REDIS_URL'].map((name) => [
      name,
      `arn:aws:secretsmanager:eu-central-1:123456789012:secret:${name}`,
    ]),
  ),
}

const pools = {
  v2: { paths: ['/api/v2'], headers: ['x-version:2'], canary_image: 'app:2', canary_percent: 5 },
  heavy: { paths: ['/api/v2/heavy/', '/api/v2.1'], min: 1, max: 3, cpu: 1024, memory: 2048, shutdown_timeout: 90 },
  shop: { hosts: ['Shop.example.org'] },
  'shop-api': { hosts: ['shop.example.org/api'], headers: ['x-shop:api'] },
}

interface Rule {
  readonly pool: string
  readonly priority: number
  readonly header: readonly (readonly [string, string])[]
  readonly hosts: readonly string[]
  readonly paths: readonly string[]
}
interface Values {
  readonly rules: Readonly<Record<string, Rule>>
  readonly spellings: Readonly<Record<string, { any: string; written: string }>>
  readonly shares: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly versions: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly deregistration_delay: number
}

/** A pattern of a listener rule: `*` stands for any characters. */
const matches = (pattern: string, text: string): boolean =>
  new RegExp(`^${pattern.replaceAll(/[.+^$(){}|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`).test(text)

/** The pool to which WAF and ALB send a request, as AWS documents their rules; 404 if WAF blocks it. */
function poolOf({ rules, spellings }: Values, url: string, headers: Record<string, string> = {}): string | 404 {
  const [, host = '', target = ''] = /^https:\/\/([^/:]+)[^/]*(\/.*)$/.exec(url) ?? []
  const [path = ''] = target.split('?')
  const decoded = decodeURIComponent(path).toLowerCase()
  const isOdd = ({ any, written }: { any: string; written: string }): boolean =>
    new RegExp(any).test(decoded) && !new RegExp(written).test(path)
  if (Object.values(spellings).some(isOdd)) return 404
  const all = Object.values(rules).sort((a, b) => a.priority - b.priority)
  const found = all.find(
    (rule) =>
      rule.header.every(([name, value]) => headers[name] !== undefined && matches(value, headers[name])) &&
      (rule.hosts.length === 0 || rule.hosts.some((one) => matches(one.toLowerCase(), host.toLowerCase()))) &&
      (rule.paths.length === 0 || rule.paths.some((one) => matches(one, path))),
  )
  return found?.pool ?? 'default'
}

describe('the pools of deploy/aws', { skip: terraform ? false : 'terraform is not installed' }, () => {
  let folder: string
  const evaluate = (variables: object): Values => outputs(folder, { ...required, ...variables }) as unknown as Values

  before(() => {
    const names = ['rules', 'spellings', 'shares', 'versions', 'deregistration_delay']
    const shown = names.map((name) => `output "${name}" {\n  value = local.${name}\n}`).join('\n')
    // No provider is needed for values.
    folder = copy(
      ['pools.tf', 'variables.tf'].map((name) => join(root, 'deploy/aws', name)),
      { 'outputs.tf': shown },
    )
    assert.equal(initialise(folder), undefined)
  })

  it('get the requests of their routes, in the order of the contract, and no other', () => {
    const values = evaluate({ pools })
    const paths: Record<string, string | 404> = {
      '/': 'default',
      '/api': 'default',
      '/api/v20': 'default',
      '/x/api/v2': 'default',
      '/x?y=/api/v2': 'default',
      '/api/v2': 'v2',
      '/api/v2/': 'v2',
      '/api/v2/x?y=1': 'v2',
      '/api/v2/heavier': 'v2',
      '/api/v2/heavy': 'heavy',
      '/api/v2/heavy/x': 'heavy',
      '/api/v2.1/x': 'heavy',
      '/api/v2x1': 'default',
      // Another spelling reaches no pool.
      '/%61pi/v2': 404,
      '//api/v2': 404,
      '/api//v2/x': 404,
      '/API/v2': 404,
      '/api/v2;a=b': 404,
      '/api%2Fv2': 404,
      '/api/v2/%68eavy/x': 404,
    }
    for (const [path, pool] of Object.entries(paths))
      assert.equal(poolOf(values, `https://www.example.org${path}`), pool, path)
    for (const [url, pool] of Object.entries({
      'https://shop.example.org/': 'shop',
      'https://SHOP.example.org:443/api2': 'shop',
      'https://shop.example.org/api/v2': 'shop-api',
      'https://my.shop.example.org/x': 'default',
    }))
      assert.equal(poolOf(values, url), pool, url)
    const url = 'https://shop.example.org/api'
    assert.equal(poolOf(values, url, { 'x-version': '2' }), 'v2')
    assert.equal(poolOf(values, url, { 'x-version': '20' }), 'shop-api')
    assert.equal(poolOf(values, 'https://www.example.org/', { 'x-shop': 'api', 'x-version': '2' }), 'shop-api')

    const priorities = Object.values(values.rules).map(({ priority }) => priority)
    assert.equal(new Set(priorities).size, priorities.length)
    assert.ok(priorities.every((priority) => priority >= 1 && priority <= 50_000))
    // Limits of AWS.
    for (const { any, written } of Object.values(values.spellings))
      assert.ok(any.length <= 512 && written.length <= 512)
  })

  it('have a size, a canary and timeouts of their own', () => {
    const { versions, shares, deregistration_delay: delay } = evaluate({ pools })
    const names = ['heavy-stable', 'shop-api-stable', 'shop-stable', 'stable', 'v2-canary', 'v2-stable']
    assert.deepEqual(Object.keys(versions).sort(), names)
    const { pool, color, image, min, max, cpu, shutdown } = versions['heavy-stable'] ?? {}
    assert.deepEqual([pool, color, image, min, max, cpu, shutdown], ['heavy', 'stable', 'app:1', 1, 3, 1024, 90])
    assert.deepEqual([versions['v2-canary']?.pool, versions['v2-canary']?.image], ['v2', 'app:2'])
    assert.equal(versions.stable?.pool, 'default')
    assert.deepEqual(shares.v2, { 'v2-stable': 95, 'v2-canary': 5 })
    assert.deepEqual(shares.default, { stable: 100 })
    assert.equal(delay, 105)
  })

  it('are none by default, with or without a canary', () => {
    const plain = evaluate({})
    assert.deepEqual([plain.rules, plain.shares], [{}, { default: { stable: 100 } }])
    const { shares, versions } = evaluate({ canary_image: 'app:2', canary_percent: 10 })
    assert.deepEqual(shares, { default: { stable: 90, canary: 10 } })
    assert.deepEqual(Object.keys(versions), ['canary', 'stable'])
  })

  for (const [what, wrong, message] of [
    ['a name', { 'No Name': { paths: ['/x'] } }, /A pool is named by/],
    ['the name default', { default: { paths: ['/x'] } }, /A pool is named by/],
    ['no route', { a: {} }, /Each pool needs a route/],
    ['a path with a wildcard', { a: { paths: ['/x/*'] } }, /paths: prefixes that start with \//],
    ['a path in two pools', { a: { paths: ['/x'] }, b: { paths: ['/x/'] } }, /have the same path, host or header/],
    ['a host with a port', { a: { hosts: ['a.example:80'] } }, /hosts: names without a port/],
    ['a header without a value', { a: { headers: ['x-version'] } }, /headers: a name and a value/],
    ['a long shutdown', { a: { paths: ['/x'], shutdown_timeout: 120 } }, /shutdown_timeout is 30 to 105 seconds/],
  ] as const)
    it(`are rejected with ${what}`, () => {
      assert.throws(
        () => evaluate({ pools: wrong }),
        (error) => {
          assert.match(messageOf(error), message)
          return true
        },
      )
    })
})

describe('a plan of deploy/aws', () => {
  let folder: string
  let reason: string | undefined = terraform ? undefined : 'terraform is not installed'

  before(() => {
    if (reason) return
    const access = 'access_key = "x"\n  secret_key = "x"'
    const skips = ['credentials_validation', 'requesting_account_id', 'metadata_api_check', 'region_validation']
    // Any version of the provider, and no account.
    folder = copy(files, {
      'versions_override.tf':
        'terraform {\n  required_providers {\n    aws = {\n      source  = "hashicorp/aws"\n      version = ">= 5.0"\n    }\n  }\n}\n' +
        `provider "aws" {\n  ${access}\n${skips.map((name) => `  skip_${name} = true\n`).join('')}}\n`,
    })
    const failed = initialise(folder)
    reason = failed && 'the AWS provider cannot be installed'
  })

  for (const [what, variables] of Object.entries({
    'with a canary': { canary_image: 'app:2', canary_percent: 5 },
    'with pools': { pools },
    'with an NLB': { network: { listener: 'tls' } },
    'with an NLB that passes TLS through': { network: { listener: 'tcp', proxy_protocol: true } },
  }))
    it(`${what} has timeouts that fit`, async (t) => {
      if (reason) return t.skip(reason)
      const text = plan(folder, { ...required, ...variables })
      const { findings, read } = await examine([{ file: 'plan.json', text }], { longestMs: 10_000, connect: false })
      assert.equal(read.length, 1)
      assert.deepEqual(findings, [])
    })

  it('rejects pools behind an NLB', (t) => {
    if (reason) return t.skip(reason)
    assert.throws(
      () => plan(folder, { ...required, pools, network: { listener: 'tcp' } }),
      (error) => {
        assert.match(messageOf(error), /An NLB has no rules and no weights/)
        return true
      },
    )
  })
})
