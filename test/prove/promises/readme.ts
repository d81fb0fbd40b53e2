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
  'replace-readme': {
    wording:
      'Replacing instances loses no request of any method. Only nginx before 1.27.4 may cut an idle kept-alive connection',
    page,
    under: 'every instance is replaced under load, behind nginx, HAProxy and the built-in load balancer',
    cost: 'nothing; with `fleet deploy` behind that nginx, an error for a request on such a connection, which clients repeat if it is safe',
    tests: [
      'test/nginx/replace.test.ts › loses no request and executes none twice while every instance is replaced',
      'test/haproxy/pools.test.ts › draining, killing and rolling one pool fails no request of either',
      'test/edge/rolling.test.ts',
    ],
  },
  'kill-readme': {
    wording: 'Killing an instance loses only the unsafe requests that it had in flight, and no session.',
    page,
    under: 'SIGKILL of an instance under load',
    cost: '502 for these requests',
    tests: [
      'test/nginx/replace.test.ts › loses only POSTs and PATCHes that a killed instance was serving, and none of the other pool',
      'test/edge/rolling.test.ts › lose only unsafe requests that a killed process was running, and none of the other pool',
    ],
  },
  'sent-once-readme': {
    wording: 'A POST or PATCH is never sent twice.',
    page,
    under: 'an instance dies after it received the request',
    cost: '502',
    tests: [
      'test/nginx/retry.test.ts › does not repeat a * that was sent',
      'test/haproxy/front.test.ts › retries a failed GET on another instance, and never a POST',
      'test/edge/balancer/failures.test.ts › never causes a POST to run twice',
    ],
  },
  'idempotent-readme': {
    wording: 'nginx repeats PUT and DELETE, which are idempotent by RFC 9110.',
    page,
    under: 'an instance dies after it received the request',
    cost: 'a PUT or DELETE may run twice, with the same effect',
    tests: ['test/nginx/replace.test.ts'],
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
