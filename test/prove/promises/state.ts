import type { PromiseLine } from '../promises.ts'

const sessions = 'docs/sessions.md'
const jwt = 'docs/jwt.md'
const cache = 'docs/cache.md'
const limits = 'docs/limits.md'
const locks = 'docs/locks.md'
const registry = 'docs/registry.md'
const session = 'test/state/session'
const tokens = 'test/state/jwt'
const shared = 'test/state/cache/fleet.test.ts'
const idempotency = 'test/state/idempotency'

export const state = {
  'session-changes': {
    wording: 'No lost changes.',
    page: sessions,
    under: 'overlapping requests of one session change different fields, on several instances',
    cost: 'of two changes to the same field the last one is kept',
    tests: [`${session}/shared.test.ts › merge a hundred overlapping requests without a lost change`],
  },
  'session-logout': {
    wording: 'A logout takes effect on every instance at once, or within a second on instances with `track`.',
    page: sessions,
    under: 'a logout on one instance, also if its announcement is lost',
    cost: 'with `track`, a session that has ended works for up to a second',
    tests: [
      `${session}/shared.test.ts › see a logout of any instance at once`,
      `${session}/tracked.test.ts › ends within a second after a logout whose announcement is lost on a dead connection`,
    ],
  },
  'session-rotation': {
    wording: 'Of several secrets, the first signs and all verify.',
    page: sessions,
    under: 'the secret is changed on one instance after the other',
    cost: 'nothing',
    tests: [`${session}/contract.ts › keeps sessions when secrets are rotated`],
  },
  'session-outage': {
    wording:
      'If Redis rejects the write, the stored session is unchanged; if it times out, the write may have been applied.',
    page: sessions,
    under: 'Redis is gone or full',
    cost: '503 with `Retry-After` for requests that need a session',
    tests: [
      `${session}/shared.test.ts › responds 503 and keeps the session until Redis is back (*)`,
      `${session}/session.test.ts › redis: keeps the old session when Redis is full`,
    ],
  },
  'session-tracked': {
    wording: 'A change is seen within milliseconds, and within a second in every case.',
    page: sessions,
    under: 'a change by any client of Redis, also if its announcement is lost',
    cost: 'a session is up to a second old',
    tests: [
      `${session}/tracked.test.ts › is read again after a change by any client and command`,
      `${session}/tracked-failover.test.ts › cost no command, and end within a second after a logout`,
    ],
  },
  'session-anonymous': {
    wording: 'Beyond a limit the request works as usual, but its session is not saved',
    page: sessions,
    under: 'clients that never log in start many sessions',
    cost: 'no session without a login; a login is always saved',
    tests: [`${session}/limits.test.ts › serves requests beyond the limit without saving their new sessions`],
  },
  'session-size': {
    wording:
      'A request that would exceed it gets 413 with `FLEET_ERR_SESSION_TOO_LARGE`, and the session is unchanged.',
    page: sessions,
    under: 'a session grows beyond `maxBytes`, also by overlapping requests together',
    cost: '413',
    tests: [
      `${session}/limits.test.ts › rejects a change that makes the session too large with 413 and keeps the old data`,
      `${session}/limits.test.ts › rejects the overlapping request that would make the session too large`,
    ],
  },
  revocation: {
    wording: 'A revocation takes effect everywhere within a second.',
    page: jwt,
    under: 'a logout on one instance, also if its announcement is lost',
    cost: 'a revoked token is accepted for up to a second',
    tests: [
      `${tokens}/jwt.test.ts › finds a revocation in the log if its announcement is lost`,
      `${tokens}/jwt.test.ts › knows earlier revocations on an instance that starts later`,
    ],
  },
  'refresh-reuse': {
    wording: 'A second use means that the token or its successor was stolen: the session ends on every instance',
    page: jwt,
    under: 'a refresh token is used again after the leeway, or by another client',
    cost: 'a login',
    tests: [`${tokens}/contract.ts › refresh reuse: ends the session with all its tokens, and no other session`],
  },
  'refresh-leeway': {
    wording:
      'For `refreshLeewayMs` (10 s) after its first use, a refresh token may be used again by the same client, on any instance.',
    page: jwt,
    under: 'the response to a refresh is lost, or two tabs refresh at once',
    cost: 'nothing',
    tests: [`${tokens}/contract.ts › returns the same pair to every use of a refresh token within the leeway`],
  },
  'tokens-outage': {
    wording: "`onOutage: 'reject'` (default) responds 503, `onOutage: 'allow'` accepts valid tokens.",
    page: jwt,
    under: 'Redis is gone, so that revocations are unknown',
    cost: "503; with 'allow', a revoked token is accepted until Redis is back",
    tests: [
      `${tokens}/jwt.test.ts › rejects tokens with onOutage 'reject' until Redis is back and the log was read`,
      `${tokens}/jwt.test.ts › accepts valid tokens with onOutage 'allow', but issues no new ones`,
    ],
  },
  'cache-outage': {
    wording: 'An outage of Redis causes no errors: loaders are called instead',
    page: cache,
    under: 'Redis is suspended or gone',
    cost: 'the time of the loader',
    tests: [
      `${shared} › loads once per instance, and serves the stale value if that fails`,
      `${shared} › every call ends while Redis is suspended`,
    ],
  },
  'cache-one-load': {
    wording: 'One loader call in the whole fleet per missing key, however many callers wait.',
    page: cache,
    under: 'a thousand callers in four processes want a missing key',
    cost: 'nothing',
    tests: [`${shared} › four processes with 250 callers each load once`],
  },
  'cache-loader-dies': {
    wording: 'If the loading instance dies, another one takes over within `leaseMs`.',
    page: cache,
    under: 'SIGKILL of the instance that loads',
    cost: '`leaseMs` more',
    tests: [`${shared} › another process loads, once, if the loading one is killed`],
  },
  'cache-push': {
    wording: '`set`, `delete` and `deleteByTag` are pushed to the memory of every instance.',
    page: cache,
    under: 'a change on another instance',
    cost: 'nothing',
    tests: [`${shared} › see values that one of them sets, changes and deletes`],
  },
  'cache-disconnected': {
    wording: 'An instance that lost the connection treats its memory as stale.',
    page: cache,
    under: 'the connection to Redis breaks',
    cost: 'the time of the loader',
    tests: [
      `${shared} › treat memory as stale after the push connection was lost`,
      `${shared} › sends pending invalidations when Redis is back`,
    ],
  },
  'cache-stale-load': {
    wording: 'The result of a load that began before a `delete` is not stored.',
    page: cache,
    under: 'a key is deleted while it is loaded, on any instance',
    cost: 'nothing',
    tests: [`${shared} › do not store a load whose key another instance deleted meanwhile`],
  },
  'rate-limit-fleet': {
    wording: 'a client gets as many requests per window as the limit allows, whichever instances respond.',
    page: limits,
    under: 'requests of one client to several instances at once',
    cost: '429 beyond the limit',
    tests: ['test/state/rate-limit/plugin.test.ts › counts requests of all instances exactly'],
  },
  'rate-limit-window': {
    wording: 'The window slides, so this holds for every window of that length.',
    page: limits,
    under: 'bursts at any time',
    cost: '429 beyond the limit',
    tests: ['test/state/rate-limit/store.test.ts › admits no more in any window, wherever it begins'],
  },
  'rate-limit-outage': {
    wording: 'While Redis is unavailable each instance allows the limit divided by the number of live instances',
    page: limits,
    under: 'Redis is gone or suspended',
    cost: '429 earlier, if the requests of a client are not spread evenly',
    tests: [
      'test/state/rate-limit/plugin.test.ts › enforces the share of an instance without Redis, and the whole limit when it is back',
      'test/state/rate-limit/plugin.test.ts › responds in time and enforces limits while Redis is suspended',
    ],
  },
  'idempotency-once': {
    wording:
      'A POST that a client or a load balancer repeats with the same `Idempotency-Key` and body runs only once. It gets the first response, from any instance',
    page: limits,
    under: 'a POST is repeated, also many times at once, or while Redis fails',
    cost: '409 with `Retry-After` while the first one is in flight or its response is not stored yet',
    tests: [
      `${idempotency}/plugin.test.ts › sends the first response to a repetition, from any instance, without running it again`,
      `${idempotency}/plugin.test.ts › runs one of many concurrent requests`,
      `${idempotency}/plugin.test.ts › stores the response when Redis is back, for *`,
    ],
  },
  'idempotency-crash': {
    wording: 'How long a key stays locked after the instance with its request died; a live instance renews it.',
    page: 'docs/options.md',
    under: 'SIGKILL of the instance that runs the first one',
    cost: '409 with `Retry-After` until the claim expires (`lockMs`), then the request runs again',
    tests: [`${idempotency}/plugin.test.ts › a lock expires after its process died, and not before`],
  },
  'idempotency-callers': {
    wording: 'The same key of another caller is another key, so no caller gets the response of another one.',
    page: limits,
    under: 'two callers use one key',
    cost: 'nothing',
    tests: [
      `${idempotency}/scope.test.ts › a guest does not get the response that started the session of another guest at the same address`,
      `${idempotency}/scope.test.ts › a key belongs to the user at every address`,
    ],
  },
  'lock-exclusive': {
    wording: '`lock()` runs a function while no other caller in the fleet runs one under the same name.',
    page: locks,
    under: 'callers on several instances',
    cost: 'waiting',
    tests: [`test/state/locks/locks.test.ts › allows one holder at a time in the whole fleet, with rising tokens`],
  },
  'leader-one': {
    wording: '`leader()` runs a function on exactly one instance until its signal is aborted.',
    page: locks,
    under: 'several instances, and SIGKILL of the leader',
    cost: 'no leader for up to `ttlMs`',
    tests: [
      'test/state/locks/locks.test.ts › exactly one instance leads',
      'test/state/locks/failures.test.ts › another instance leads within ttlMs after the leader was killed',
    ],
  },
  'lock-holder-dies': {
    wording:
      'It is renewed three times per `ttlMs` while the function runs, and expires by itself when its holder dies.',
    page: locks,
    under: 'SIGKILL of the holder',
    cost: '`ttlMs` until the next holder',
    tests: [
      'test/state/locks/failures.test.ts › another holder gets the lock of a killed one within its ttlMs, with a greater token',
    ],
  },
  'lock-lost': {
    wording:
      "The holder's signal is aborted as soon as another holder is possible, by the holder's own clock and 2 % early.",
    page: locks,
    under: 'Redis is gone for longer than two thirds of `ttlMs`, or the clock of a machine jumps',
    cost: '`FLEET_ERR_LOCK_LOST`',
    tests: [
      'test/state/locks/lease.test.ts › that cannot be renewed is tried again after each tenth, and lost 2 % before it expires',
      'test/state/locks/failures.test.ts › a wrong or adjusted clock neither ends nor prolongs a *',
    ],
  },
  'lock-fencing': {
    wording:
      'That of each holder is greater than any before it, even if Redis lost its data or its clock was set back.',
    page: locks,
    under: 'a suspended holder, or a failover that loses the lock, so that there are two holders',
    cost: 'the late writer changes nothing',
    tests: [
      'test/state/locks/locks.test.ts › tokens rise even if Redis loses its data or its clock is set back',
      'test/state/locks/failures.test.ts › keeps a replicated lock; the fencing token rejects the late holder of one that was not replicated',
    ],
  },
  'registry-killed': {
    wording: 'A killed instance disappears from the list within this time.',
    page: 'docs/options.md',
    under: 'SIGKILL of an instance',
    cost: 'nothing',
    tests: ['test/state/registry/registry.test.ts › an instance killed with SIGKILL disappears within one lease'],
  },
  'registry-restores': {
    wording:
      'An instance whose entry is overwritten restores it with its next heartbeat, and its peers keep its last valid facts.',
    page: registry,
    under: 'another application writes to the keys of the registry',
    cost: 'nothing',
    tests: ['test/state/registry/trust.test.ts › an instance restores its overwritten entry'],
  },
  'registry-signed': {
    wording:
      'A command (`drain`, `undrain`) is also bound to the addressed process. A later process with the same `INSTANCE_ID` ignores it.',
    page: registry,
    under: 'a `drain` is sent to an instance that is replaced at that moment',
    cost: 'nothing',
    tests: ['test/state/registry/trust.test.ts › executes a signed command once, in the addressed process only'],
  },
} as const satisfies Record<string, PromiseLine>
