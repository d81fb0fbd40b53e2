import { readEnv } from '../../../src/base/env.ts'
import { FleetError } from '../../../src/base/errors.ts'
import { hostUrls, postgresSettings } from '../../../src/base/postgres-url.ts'
import { clusterNodes, sentinels } from '../../../src/base/redis-url.ts'
import { urlOptions } from '../../../src/state/redis/client.ts'
import type { Target } from '../engine/target.ts'

const names = [
  ...[
    'PORT',
    'HOST',
    'INSTANCE_ID',
    'FLEET_NAME',
    'FLEET_COLOR',
    'FLEET_POOL',
    'FLEET_ROUTES',
    'FLEET_WEIGHT',
    'FLEET_ALLOW_MEMORY',
    'FLEET_AGENT_PORT',
  ],
  ...[
    'REDIS_URL',
    'REDIS_HOST',
    'REDIS_PORT',
    'REDIS_TLS',
    'REDIS_SENTINELS',
    'REDIS_CLUSTER',
    'REDIS_COMMAND_TIMEOUT',
  ],
  ...['SESSION_SECRET', 'SESSION_TTL', 'SESSION_COOKIE_NAME', 'SESSION_COOKIE_SECURE', 'JWT_SECRET', 'JWT_KEYS'],
  ...['DATABASE_URL', 'DATABASE_REPLICA_URLS', 'DATABASE_URL_REPLICA_1', 'DATABASE_URL_REPLICA_99999999999999999999'],
  ...['SHUTDOWN_TIMEOUT', 'DRAIN_DELAY', 'TRUST_PROXY', 'LOG_LEVEL', 'NOTIFY_SOCKET', 'WATCHDOG_USEC', 'NODE_ENV'],
]

/** The environment, as lines of `NAME=value`: it is accepted, or a FleetError names the fault without the value. */
export default {
  seeds: [
    'PORT=3000\nHOST=::1\nFLEET_NAME=shop\nTRUST_PROXY=loopback,10.0.0.0/8',
    'REDIS_URL=rediss://user:p%40ss@[::1]:6380/3?family=6',
    'REDIS_SENTINELS=name@a:1,b:2\nREDIS_TLS=true',
    'REDIS_CLUSTER=a:1,b,[::1]:7000',
    'REDIS_URL=unix:///run/redis.sock?db=2\nREDIS_HOST=a',
    'DATABASE_URL=postgresql://u:p@one:5432,two/shop?schema=x\nDATABASE_URL_REPLICA_1=postgres://r',
    'JWT_KEYS=[{"kid":"a","secret":"b"}]\nSESSION_SECRET=a,b\nSESSION_TTL=1e3',
  ],
  dictionary: [
    ...names.map((name) => `\n${name}=`),
    'redis://',
    'postgresql://',
    '@',
    ':',
    ',',
    '%zz',
    '%',
    '[',
    ']',
    '\0',
    '-1',
    '1e9',
  ],
  run(input) {
    const lines = input.toString('utf8').split('\n')
    const source = Object.fromEntries(
      lines.map((line) => [line.slice(0, Math.max(0, line.indexOf('='))), line.slice(line.indexOf('=') + 1)]),
    )
    const outcomes = [outcome(() => Object.values(readEnv(source)))]
    for (const value of Object.values(source)) {
      hostUrls(value)
      outcomes.push(outcome(() => postgresSettings(value, reject)))
      outcomes.push(outcome(() => urlOptions(value)))
      outcomes.push(
        outcome(() => clusterNodes(value.split(','), reject)),
        outcome(() => sentinels(value, reject)),
      )
    }
    return outcomes.join(' ')
  },
} satisfies Target

const reject = (problem: string): never => {
  throw new FleetError('FLEET_ERR_OPTION_INVALID', problem)
}

function outcome(run: () => unknown): string {
  try {
    run()
    return 'accepted'
  } catch (error) {
    if (!(error instanceof FleetError)) throw error
    return error.code
  }
}
