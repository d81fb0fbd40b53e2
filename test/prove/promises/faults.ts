import type { PromiseLine } from '../promises.ts'

export const faults = {
  'redis-failover': {
    wording: 'A write that was not replicated when its primary died is lost.',
    page: 'docs/faults.md',
    under: 'the primary of a Sentinel or of a Cluster dies under load; everything that was replicated is kept',
    cost: '503 with `Retry-After` until there is a new primary; a repeated order gets its first response',
    tests: ['test/state/faults/failover.test.ts › under load: keeps writes that were acknowledged and replicated'],
  },
  'planned-failover': {
    wording: 'Instances follow a new primary as soon as a sentinel reports it, even while the old one still runs.',
    page: 'docs/faults.md',
    under: '`SENTINEL FAILOVER`, after which the old primary accepts writes for some seconds',
    cost: 'what was written to the old primary before the report',
    tests: ['test/state/redis/planned-failover.test.ts'],
  },
  'redis-faults': {
    wording: 'When the fault is over, every row works again by itself.',
    page: 'docs/faults.md',
    under: 'Redis restarted, partitioned, slow, full, or on a full disk under load; instances stay ready',
    cost: '503 with `Retry-After` meanwhile',
    tests: ['test/state/faults/faults.test.ts › every row works again afterwards'],
  },
  'own-writes': {
    wording: "a user's reads go only to replicas that have replayed that user's writes, on any instance",
    page: 'docs/database.md',
    under: 'replicas that replay 200 ms late, and each write read at once on another instance',
    cost: 'nothing',
    tests: ['test/database/own-writes.test.ts'],
  },
  'database-failover': {
    wording: 'writes fail with 503 `FLEET_ERR_DATABASE_UNAVAILABLE` and `Retry-After` until another server is promoted',
    page: 'docs/database.md',
    under: 'a replica and then the primary killed under load, and the replica promoted',
    cost: '503 for writes until the promotion; nothing for the death of a replica',
    tests: [
      'test/database/failover.test.ts › a replica killed under read load fails no read, and serves reads again when it is back',
    ],
  },
  'random-faults': {
    wording: 'no lost sessions, no dropped requests',
    page: 'README.md',
    under:
      'two of sixteen faults of instances, Redis, PostgreSQL, DNS, the clock or the load balancer at the same time',
    cost: 'a response with 503, 502 or 409 that says whether to repeat; after a failover of Redis, a change that was not replicated',
  },
} as const satisfies Record<string, PromiseLine>
