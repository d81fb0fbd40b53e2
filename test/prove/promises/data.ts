import type { PromiseLine } from '../promises.ts'

const faults = 'docs/faults.md'
const page = 'docs/database.md'
const redisFaults = 'test/state/faults/faults.test.ts'
const failover = 'test/database/failover.test.ts'
const replicas = 'test/database/replicas.test.ts'

/** Faults of Redis and of the database. */
export const data = {
  'redis-never-hangs': {
    wording: 'No request hangs.',
    page: faults,
    under: 'Redis is slow, silent, gone, read-only, full or failing over',
    cost: '503 with `Retry-After: 1`, where a request needs what Redis has',
    tests: [
      `${redisFaults} › observes exactly the rows of the docs`,
      'test/state/faults/failover.test.ts › under load: responds to every request with 200 or 503',
    ],
  },
  'redis-rotation': {
    wording: 'The instance stays in rotation and `/health` reports `degraded`, unless `redis.critical` is set.',
    page: faults,
    under: 'any fault of Redis',
    cost: 'routes without shared state work',
    tests: [
      'test/state/redis/redis.test.ts › degrades the instance, or makes it unready if `critical` is true',
      'test/state/redis/redis.test.ts › a command that fails because of Redis degrades the check at once, and the check recovers by itself',
    ],
  },
  'lock-short-outage': {
    wording: 'A lock survives a fault that is shorter than two thirds of `ttlMs`.',
    page: faults,
    under: 'Redis is gone for a short time',
    cost: 'nothing',
    tests: ['test/state/locks/locks.test.ts › a lock survives a short outage'],
  },
  'idempotency-pending': {
    wording:
      'The instance of the request then keeps the result as a pending write for `lockMs`, the life of the claim, and writes it when Redis is back.',
    page: faults,
    under: 'Redis fails after a key was claimed and before its response was stored',
    cost: '409 with `Retry-After: 1` on other instances until then',
    tests: [
      'test/state/idempotency/plugin.test.ts › stores the response when Redis is back, for *',
      'test/state/idempotency/plugin.test.ts › releases the key of a failed request when Redis is back',
    ],
  },
  'broadcast-at-most-once': {
    wording: 'Messages are delivered at most once.',
    page: faults,
    under: 'the connection of a subscriber breaks',
    cost: 'a missed message, which `onReconnect` tells the subscriber about',
    tests: [
      'test/state/broadcast/broadcast.test.ts › reconnect after an outage of Redis',
      'test/state/broadcast/signed-messages.test.ts › opens a message unchanged, once',
    ],
  },
  'database-down-at-boot': {
    wording:
      'If the database is down at boot, the instance is live but not ready, and becomes ready once the database is up.',
    page,
    under: 'the database starts after the instances',
    cost: 'nothing: the instance is not in rotation',
    tests: [
      'test/database/database.test.ts › starts with the database down: live, not ready, and ready by itself later',
    ],
  },
  'database-panic': {
    wording: 'If every instance loses the database at once, the panic rule keeps all of them in rotation.',
    page,
    under: 'the database is gone',
    cost: 'an error response of routes that need the database',
    tests: [
      'test/instance/health.test.ts › stays in rotation if every other instance has lost the same dependency (panic rule)',
    ],
  },
  'replica-lost': {
    wording:
      'A replica that refuses a connection is left out at once, one that hangs after `fall` probes. Its reads in progress are repeated elsewhere.',
    page,
    under: 'SIGKILL or SIGSTOP of a replica under load',
    cost: 'the time of one read',
    tests: [
      `${replicas} › a killed replica fails no read, leaves rotation, and returns by itself`,
      `${replicas} › retries the reads of a hanging replica elsewhere, and sends it no further ones`,
    ],
  },
  'replica-promoted': {
    wording:
      "A promoted replica is used once the primary's client has connected to it too. Until then it gets no reads, because two primaries are worse than one replica less.",
    page,
    under: 'a replica is promoted',
    cost: 'nothing',
    tests: [`${replicas} › leaves out a server that is neither a standby nor the primary`],
  },
  'replicas-serve': {
    wording: 'While the primary is down, replicas keep serving reads',
    page,
    under: 'SIGKILL of the primary under load',
    cost: 'writes fail',
    tests: [
      `${failover} › after the primary dies and a replica is promoted, reads never stop, and writes fail fast and then resume`,
    ],
  },
  'own-writes': {
    wording: "a user's reads go only to replicas that have replayed that user's writes, on any instance",
    page,
    under: 'replicas replay late, and the next request meets another instance',
    cost: 'a read waits `waitMs` (20 ms), then goes to the primary',
    tests: [
      'test/database/own-writes.test.ts › no read of own writes is stale on any of three instances, and replicas serve all other clients',
      'test/database/own-writes.test.ts › reads only from the primary when the position after a write is unknown',
    ],
  },
  'replica-lags': {
    wording: '`policy` chooses among the replicas that respond and lag less than `maxLagMs`',
    page,
    under: 'a replica falls behind',
    cost: 'nothing',
    tests: [
      `${replicas} › leaves out a replica that lags more than maxLagMs until it catches up; an idle primary causes no lag`,
    ],
  },
  'pools-bounded': {
    wording: '`pools(options)` opens `pg` pools that are bounded in every direction',
    page,
    under: 'more queries than the database can run',
    cost: '503 with `Retry-After`',
    tests: [
      'test/database/pools.test.ts › limits connections and waiting queries, and rejects further ones at once',
      'test/database/pools.test.ts › cancels a statement that runs too long or whose server hangs',
    ],
  },
  'one-migration': {
    wording: 'Instances that start at the same time wait for the one that migrates.',
    page,
    under: 'several processes migrate at once',
    cost: 'a later start',
    tests: ['test/database/migrate.test.ts › applies each migration once when three processes start at the same time'],
  },
} as const satisfies Record<string, PromiseLine>
