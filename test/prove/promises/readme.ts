import type { PromiseLine } from '../promises.ts'

const page = 'README.md'

export const readme = {
  'no-lost-sessions': {
    wording: 'no lost sessions',
    page,
    under: 'every instance is replaced under load, then all are stopped and started again',
    cost: 'nothing; while all are stopped, requests fail, and the session is there afterwards',
    tests: ['test/app/trouble.test.ts › without Redis it responds 503 where a session is needed, and sessions survive'],
  },
  'drains-before-exit': {
    wording: 'an instance that receives SIGTERM drains before it exits',
    page,
    under: 'SIGTERM under load',
    cost: 'nothing',
    tests: [
      'test/instance/lifecycle/stop.test.ts › an app that is stopped under load loses no request',
      'test/instance/lifecycle/lifecycle.test.ts › finishes a slow request with Connection: close before it exits',
    ],
  },
  'same-dependency-lost': {
    wording: 'If every instance loses the same dependency, none leaves rotation',
    page: 'docs/reference/health.md',
    under: 'a critical dependency is lost by all instances at once',
    cost: 'an error response of the routes that need the dependency',
    tests: [
      'test/instance/health.test.ts › stays in rotation if every other instance has lost the same dependency (panic rule)',
    ],
  },
  'sheds-load': {
    wording: 'Probes and critical routes are never shed',
    page: 'docs/reference/overload.md',
    under: 'more requests than a process can serve',
    cost: '503 with `Retry-After` before any work is done',
    tests: [
      'test/instance/overload/overload.test.ts › sheds requests late in a long turn of the event loop',
      'test/instance/overload/overload.test.ts › never sheds probes and critical routes',
    ],
  },
  'dead-redis': {
    wording: 'No command outlives `commandTimeoutMs`',
    page: 'docs/reference/redis.md',
    under: 'Redis is suspended, gone, or never replies',
    cost: 'that time once; then other commands fail at once',
    tests: [
      'test/state/redis/redis.test.ts › no command takes longer than its time limit',
      'test/state/redis/redis.test.ts › ends every command, and close(), while Redis is suspended',
    ],
  },
  'revocation-readme': {
    wording: 'revocation on every instance within a second',
    page: 'docs/reference/jwt.md',
    under: 'a logout on one instance, also if its announcement is lost',
    cost: 'a revoked token is accepted for up to a second',
    tests: [
      'test/state/jwt/jwt.test.ts › shares tokens, refreshes and revocations among instances',
      'test/state/jwt/jwt.test.ts › finds a revocation in the log if its announcement is lost',
    ],
  },
  'fleet-rate-limit': {
    wording: 'Limits requests per client for the whole fleet, whichever instance responds.',
    page: 'docs/reference/rate-limit.md',
    under: 'requests of one client to several instances at once',
    cost: '429 beyond the limit',
    tests: ['test/state/rate-limit/plugin.test.ts › counts requests of all instances exactly'],
  },
  'idempotency-readme': {
    wording: 'runs only once and gets the first response, from any instance',
    page: 'docs/reference/idempotency.md',
    under: 'a client repeats a POST whose response was lost',
    cost: '409 with `Retry-After` while the first one is in flight',
    tests: [
      'test/state/idempotency/plugin.test.ts › sends the first response to a repetition, from any instance, without running it again',
    ],
  },
  'own-writes-readme': {
    wording: 'read-your-own-writes on any instance',
    page: 'docs/reference/database.md',
    under: 'replicas lag, and the next request meets another instance',
    cost: 'a read waits `waitMs` (20 ms), then goes to the primary',
    tests: [
      'test/database/own-writes.test.ts › no read of own writes is stale on any of three instances, and replicas serve all other clients',
    ],
  },
} as const satisfies Record<string, PromiseLine>
