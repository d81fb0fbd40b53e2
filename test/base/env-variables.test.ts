import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { childEnv, nodeOptions, readEnv } from '../../src/base/env.ts'

const invalid = { code: 'FLEET_ERR_ENV_INVALID' }
const read = (name: string, value: string): unknown => (readEnv({ [name]: value }) as Record<string, unknown>)[name]

describe('an environment variable', () => {
  for (const name of ['HOST', 'FLEET_ROUTES', 'FLEET_ADMIN_TOKEN', 'FLEET_ADMIN_HOST', 'REDIS_PASSWORD', 'JWT_SECRET'])
    it(`${name} is any text, without spaces around it`, () => {
      assert.equal(read(name, ' /a b=c '), '/a b=c')
      assert.equal(readEnv({ OTHER: 'a' })[name as 'HOST'], undefined)
    })

  it('JWT_KEYS and NOTIFY_SOCKET are text too', () => {
    assert.deepEqual([read('JWT_KEYS', '[]'), read('NOTIFY_SOCKET', '@a')], ['[]', '@a'])
  })

  for (const name of ['INSTANCE_ID', 'FLEET_NAME', 'FLEET_COLOR', 'FLEET_VERSION', 'FLEET_REGION', 'FLEET_ZONE'])
    it(`${name} is safe in a header, a label and a key`, () => {
      for (const value of ['a', 'A.b_c:d@e-1', 'x'.repeat(128)]) assert.equal(read(name, value), value)
      for (const value of ['x'.repeat(129), 'a b', 'a/b', 'é', 'a\nb']) assert.throws(() => read(name, value), invalid)
    })

  for (const name of ['FLEET_ALLOW_MEMORY', 'FLEET_PUBLIC_PROBES', 'REDIS_TLS', 'SESSION_COOKIE_SECURE'])
    it(`${name} is a flag`, () => {
      assert.deepEqual([read(name, 'on'), read(name, '0'), read(name, '')], [true, false, undefined])
      assert.throws(() => read(name, 'yes'), { ...invalid, message: new RegExp(`: ${name} must be`) })
    })

  it('FLEET_POOL is the name of a pool', () => {
    assert.equal(read('FLEET_POOL', 'blue-2'), 'blue-2')
    for (const value of ['Blue', '2', 'a_b']) assert.throws(() => read('FLEET_POOL', value), invalid)
  })

  it('LOG_LEVEL is a level of pino', () => {
    for (const level of ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
      assert.equal(read('LOG_LEVEL', level), level)
    for (const level of ['INFO', 'verbose', '30']) assert.throws(() => read('LOG_LEVEL', level), invalid)
  })

  it('SESSION_COOKIE_NAME is a token of RFC 6265', () => {
    assert.equal(read('SESSION_COOKIE_NAME', '__Host-sid.1'), '__Host-sid.1')
    for (const value of ['a b', 'a=b', 'a,b', 'é']) assert.throws(() => read('SESSION_COOKIE_NAME', value), invalid)
  })

  it('SESSION_COOKIE_SECURE may be `auto`, which is no flag elsewhere', () => {
    assert.equal(read('SESSION_COOKIE_SECURE', ' auto '), 'auto')
    for (const name of ['SESSION_COOKIE_SECURE', 'REDIS_TLS']) assert.throws(() => read(name, 'AUTO'), invalid)
    assert.throws(() => read('REDIS_TLS', 'auto'), invalid)
  })

  it('WATCHDOG_USEC is a number of microseconds, from 1 to the largest safe integer', () => {
    assert.equal(read('WATCHDOG_USEC', '1'), 1)
    assert.equal(read('WATCHDOG_USEC', `${Number.MAX_SAFE_INTEGER}`), Number.MAX_SAFE_INTEGER)
    for (const value of ['0', '9007199254740992', '1.5']) assert.throws(() => read('WATCHDOG_USEC', value), invalid)
  })

  it('FLEET_SECRET and REDIS_CLUSTER are lists, in the order given', () => {
    assert.deepEqual(read('FLEET_SECRET', 'b, a'), ['b', 'a'])
    assert.deepEqual(read('REDIS_CLUSTER', 'one:1, two'), ['one:1', 'two'])
    assert.throws(() => read('FLEET_SECRET', 'b,,a'), { message: /FLEET_SECRET must be a comma-separated list/ })
  })

  it('REDIS_URL, REDIS_SENTINELS, REDIS_HOST and DATABASE_URL stay as they are written', () => {
    for (const [name, value] of [
      ['REDIS_URL', 'redis://a:1/2'],
      ['REDIS_SENTINELS', 'm@a:1,b'],
      ['REDIS_HOST', 'cache.example'],
      ['DATABASE_URL', 'postgres://a/b'],
    ] as const)
      assert.equal(read(name, ` ${value} `), value)
    for (const [name, value] of [
      ['REDIS_SENTINELS', 'a b'],
      ['REDIS_HOST', 'a:1'],
    ] as const)
      assert.throws(() => read(name, value), { message: new RegExp(name) })
  })

  it('of replicas adds them in the order of their numbers, after the list', () => {
    const url = (host: string): string => `postgres://${host}/d`
    const replicas = (variables: Record<string, string>) => readEnv(variables).DATABASE_REPLICA_URLS
    assert.equal(replicas({}), undefined)
    assert.equal(replicas({ DATABASE_URL_REPLICA_1: ' ' }), undefined)
    assert.deepEqual(replicas({ DATABASE_URL_REPLICA_2: url('b'), DATABASE_URL_REPLICA_1: url('a') }), [
      url('a'),
      url('b'),
    ])
    assert.deepEqual(replicas({ DATABASE_REPLICA_URLS: `${url('b')}, ${url('a')}` }), [url('b'), url('a')])
    for (const name of ['DATABASE_URL_REPLICA_', 'XDATABASE_URL_REPLICA_1', 'DATABASE_URL_REPLICA_1x'])
      assert.equal(replicas({ [name]: url('a') }), undefined, name)
    assert.throws(() => replicas({ DATABASE_REPLICA_URLS: `${url('a')},mysql://b` }), {
      message: /DATABASE_REPLICA_URLS has an entry that must be a URL/,
    })
  })

  it('that is invalid is not shown', () => {
    for (const name of ['FLEET_NAME', 'FLEET_POOL', 'REDIS_HOST', 'LOG_LEVEL', 'REDIS_URL', 'DATABASE_URL'])
      assert.throws(
        () => read(name, 'hunter 2'),
        ({ message }: Error) => message.includes(name) && !message.includes('hunter'),
      )
  })

  it('TRUST_PROXY needs entries that are networks, all of them', () => {
    assert.deepEqual(read('TRUST_PROXY', '10.0.0.0/8'), ['10.0.0.0/8'])
    for (const value of ['x,10.0.0.1', '10.0.0.1,x', 'yes', '1000', 'truee', 'xtrue'])
      assert.throws(() => read('TRUST_PROXY', value), invalid, value)
  })

  it('is one of a frozen object', () => assert.ok(Object.isFrozen(readEnv({}))))
})

it('a child process gets this environment, changed by the variables that are added', () => {
  process.env.FLEET_TEST_KEPT = 'kept'
  process.env.FLEET_ADMIN_TOKEN_FILE = '/run/token'
  try {
    const env = childEnv({ FLEET_NAME: 'child', FLEET_ADMIN_TOKEN: undefined })
    assert.deepEqual([env.FLEET_TEST_KEPT, env.FLEET_NAME], ['kept', 'child'])
    assert.equal(env.FLEET_ADMIN_TOKEN_FILE, '/run/token')
    assert.equal(childEnv({ FLEET_TEST_KEPT: undefined }).FLEET_TEST_KEPT, undefined)
    assert.equal(childEnv({ FLEET_ADMIN_TOKEN: 'x' }).FLEET_ADMIN_TOKEN_FILE, undefined)
    assert.equal(childEnv().FLEET_TEST_KEPT, 'kept')
    // Only secrets have a file.
    assert.ok(!('FLEET_NAME_FILE' in childEnv({ FLEET_NAME: 'child' })))
  } finally {
    delete process.env.FLEET_TEST_KEPT
    delete process.env.FLEET_ADMIN_TOKEN_FILE
  }
})

it('the options of the command line follow those of NODE_OPTIONS, which they override', () => {
  const { execArgv } = process
  const { NODE_OPTIONS } = process.env
  process.env.NODE_OPTIONS = '--max-old-space-size=1'
  process.execArgv = ['--max-old-space-size=2']
  try {
    assert.equal(nodeOptions(), '--max-old-space-size=1 --max-old-space-size=2')
  } finally {
    process.execArgv = execArgv
    if (NODE_OPTIONS === undefined) delete process.env.NODE_OPTIONS
    else process.env.NODE_OPTIONS = NODE_OPTIONS
  }
})
