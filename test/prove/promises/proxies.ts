import type { PromiseLine } from '../promises.ts'

const balancer = 'docs/balancer.md'
const nginx = 'docs/nginx.md'
const haproxy = 'docs/haproxy.md'
const edge = 'test/edge/balancer'
const hostile = 'test/edge/hostile-upstream.test.ts'

export const proxies = {
  'balancer-safe-repeated': {
    wording: 'Safe requests are repeated.',
    page: balancer,
    under: 'SIGKILL of a target, also of the next one',
    cost: 'the time of another attempt',
    tests: [
      `${edge}/failures.test.ts › fails no GET, neither in flight nor later`,
      `${edge}/failures.test.ts › fails no GET when the next target dies too and the third one is not known to be back`,
    ],
  },
  'balancer-failing-target': {
    wording: 'a target that starts to fail causes at most one such response',
    page: balancer,
    under: 'one target of several responds 500 to everything',
    cost: 'one 5xx to a safe request; unsafe ones get theirs until the target is ejected',
    tests: [`${edge}/fail-fast.test.ts › affects one request in total, over real connections (*)`],
  },
  'balancer-drain': {
    wording: 'A draining target loses no request.',
    page: balancer,
    under: 'targets drain one after the other, under load',
    cost: 'nothing',
    tests: [
      `${edge}/balancer.test.ts › leaves rotation with its first response that reports draining, without a failed request`,
      'test/edge/rolling.test.ts › lose no request while instances of one are drained and undrained',
    ],
  },
  'balancer-waits': {
    wording: 'Requests wait while no target is up, for up to `queue.timeoutMs`.',
    page: balancer,
    under: 'all targets are gone for a short time',
    cost: 'up to `queue.timeoutMs`, then 503',
    tests: [
      `${edge}/waiting.test.ts › makes requests wait for a target that comes back`,
      `${edge}/waiting.test.ts › rejects requests at once after a long outage`,
    ],
  },
  'balancer-truncated': {
    wording: 'An incomplete response never looks complete.',
    page: balancer,
    under: 'a target dies in the middle of a response',
    cost: 'an aborted response',
    tests: ['test/edge/http/response.test.ts › looks incomplete to the client when it breaks off'],
  },
  'balancer-shared-cause': {
    wording: 'Only outliers are ejected: if all targets fail alike, the cause is assumed to be shared.',
    page: balancer,
    under: 'all targets respond 500',
    cost: 'the error response',
    tests: [`${edge}/outliers.test.ts › is not detected when all targets fail alike`],
  },
  'balancer-pools': {
    wording: 'No pool takes requests of another.',
    page: balancer,
    under: 'every target of a pool is dead, draining or full',
    cost: '503 for the paths of that pool',
    tests: [
      'test/edge/http/pools.test.ts › do not take over the requests of a pool whose targets are dead, draining or full',
      'test/edge/rolling.test.ts › respond 503 for the paths of a dead pool only, and recover',
    ],
  },
  'balancer-discovery': {
    wording: 'A source that is unavailable changes nothing.',
    page: balancer,
    under: 'DNS does not respond',
    cost: 'nothing',
    tests: [
      `${edge}/discovery.test.ts › yields a target per address, follows changes, and keeps the last list while DNS does not respond`,
    ],
  },
  'balancer-sigterm': {
    wording: 'SIGTERM ends it without losing a request.',
    page: balancer,
    under: 'SIGTERM of `fleet balance` under load',
    cost: 'nothing',
    tests: [
      'test/edge/http/lifecycle.test.ts › finishes in-flight requests, sends Connection: close, and accepts no new connections',
    ],
  },
  'balancer-hostile-upstream': {
    wording:
      "No response of an upstream can end the proxy, make a client wait forever, or make the proxy's memory grow without bound.",
    page: balancer,
    under: 'any bytes from an upstream, at any time',
    cost: '502, or an aborted response',
    tests: [hostile, 'test/fuzz/fuzz.test.ts'],
  },
  'plugin-unsafe-once': {
    wording: 'A POST is never sent twice.',
    page: 'docs/proxy-plugin.md',
    under: 'a target dies',
    cost: '502',
    tests: ['test/edge/plugin/proxy.test.ts › repeats a GET on another target and never a POST'],
  },
  'nginx-replace': {
    wording: '`nginx/` is a reverse proxy configuration that loses no request while instances are replaced.',
    page: nginx,
    under: 'instances are replaced one after the other, in quick succession, under load',
    cost: 'nothing',
    tests: ['test/nginx/replace.test.ts'],
  },
  'nginx-all-failed': {
    wording:
      'When restarts follow each other quickly, nginx may mark all instances as failed although some have recovered. Then `@last_resort` tries all of them again',
    page: nginx,
    under: 'all instances were marked as failed, and some have recovered',
    cost: 'nothing',
    tests: ['test/nginx/retry.test.ts › *: an instance that is back serves at once after all were marked as failed'],
  },
  'nginx-static': {
    wording: 'files are served even when every instance is down',
    page: nginx,
    under: 'every instance is down',
    cost: 'nothing for `/static/`',
    tests: ['test/nginx/site.test.ts › caches static files and serves them while every instance is down'],
  },
  'nginx-pools': {
    wording:
      'A pool without an available instance responds 503 with `"code":"LB_ERR_UNAVAILABLE"` and `Retry-After`, and its requests never go to another pool.',
    page: nginx,
    under: 'every instance of a pool is down',
    cost: '503 for the paths of that pool',
    tests: ['test/nginx/pools.test.ts › a dead pool responds 503 for its own paths and receives nothing else'],
  },
  'haproxy-replace': {
    wording: 'Replacing instances one after the other, even in quick succession, loses no request of any method',
    page: haproxy,
    under: 'instances are replaced one after the other, in quick succession, under load',
    cost: 'nothing',
    tests: ['test/haproxy/pools.test.ts › draining, killing and rolling one pool fails no request of either'],
  },
  'haproxy-pools': {
    wording:
      'A pool without an available instance responds 503 to its own requests; if it has a single one, after some seconds, in which that may come back. No other pool gets them.',
    page: haproxy,
    under: 'every instance of a pool is down',
    cost: '503 for the paths of that pool',
    tests: ['test/haproxy/pools.test.ts › responds 503 for the paths of a dead pool only'],
  },
  'worker-unsafe-once': {
    wording: 'A `POST` that was sent may have been executed, so the Worker never sends one twice.',
    page: 'docs/cloudflare.md',
    under: 'a region fails',
    cost: 'the 502 or 503',
    tests: [
      'test/deploy/worker.test.ts › never sends a POST twice, nor to a region in cooldown',
      'test/deploy/worker.test.ts › retries a safe request if a region is unreachable',
    ],
  },
  'region-skipped': {
    wording: 'A region whose `/ready` fails its probes is skipped until it passes again.',
    page: 'docs/geo.md',
    under: 'a region is down',
    cost: 'the distance to the next region',
    tests: ['test/geo/geo.test.ts › fails over to the next healthy region, and back'],
  },
  'bounded-listeners': {
    wording:
      'Every resource that a client can occupy is bounded: connections, descriptors, memory and upstream requests.',
    page: 'docs/bounds.md',
    under: 'hostile and slow clients of every listener',
    cost: 'nothing for other clients',
    tests: [
      'test/guards/listeners.test.ts › has a test for every cell of docs/bounds.md',
      'test/edge/bounds.test.ts › closes connections above the limit',
    ],
  },
  'kubernetes-rollout': {
    wording:
      'A rollout never has fewer pods than before (`maxUnavailable: 0`) and stops at a pod that does not become ready.',
    page: 'docs/kubernetes.md',
    under: 'a rollout of a build that never becomes ready',
    cost: 'nothing; by Kubernetes, whose objects are validated here and applied to no cluster',
    tests: ['test/deploy/kubernetes.test.ts › passes fleet doctor, as applied'],
  },
  'liveness-alone': {
    wording: 'depends on no other service: a Redis outage must not restart every pod',
    page: 'docs/kubernetes.md',
    under: 'Redis is gone',
    cost: 'what [faults.md](faults.md) says for each operation',
    tests: ['test/state/faults/faults.test.ts › observes exactly the rows of the docs'],
  },
} as const satisfies Record<string, PromiseLine>
