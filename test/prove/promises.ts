/** A promise of README or docs that can be checked. */
export interface PromiseLine {
  /** The exact words. */
  wording: string
  /** The page that has these words, from the root of the project. */
  page: string
  /** What happens meanwhile. */
  under: string
  /** What it costs a client at worst. */
  cost: string
  /** Tests of `npm test` that show it as well, `file › title`. */
  tests?: readonly string[]
}

/** Each line of docs/guarantees.md. Proofs (`prove()`) name the key. */
export const promises = {
  'rolling-restart': {
    wording: 'no dropped requests',
    page: 'README.md',
    under: 'every instance is replaced, one after the other, with SIGTERM',
    cost: 'nothing',
  },
  // ---- Load balancers
  'kill-nginx': {
    wording: 'A `POST` (`PATCH`, `LOCK`) that was sent is never sent again',
    page: 'docs/nginx.md',
    under: 'instances behind nginx are killed with SIGKILL',
    cost: '502 for a POST or PATCH that was in flight on the killed instance; a PUT or DELETE in flight may run twice',
  },
  'kill-haproxy': {
    wording: 'Any other request that was sent is never sent again',
    page: 'docs/haproxy.md',
    under: 'instances behind HAProxy are killed with SIGKILL',
    cost: '502 for a request other than GET and HEAD that was in flight on the killed instance',
  },
  'kill-built-in': {
    wording: '**Unsafe requests are sent once.**',
    page: 'docs/balancer.md',
    under: 'instances behind the built-in load balancer are killed with SIGKILL',
    cost: '502 for an unsafe request that was in flight on the killed instance; on layer 4 an error for any request there',
  },
  drain: {
    wording: 'An instance that is drained and undrained loses no request',
    page: 'docs/operators.md',
    under: 'instances are drained and undrained through the operators’ API',
    cost: 'nothing',
  },
  'bad-build': {
    wording: 'A build that exits or hangs before it listens receives no request',
    page: 'docs/deploy.md',
    under: 'an instance is replaced by a build that exits, hangs, or (not behind nginx) is never ready',
    cost: 'nothing',
  },
  'reload-nginx': {
    wording: 'From 1.27.4 connections stay open (`FLEET_RELOAD=gentle`) and no request is lost',
    page: 'docs/nginx.md',
    under: 'nginx is reloaded',
    cost: 'nothing; before 1.27.4, a request on a kept-alive connection, which a browser sends again if it is safe',
  },
  'reload-haproxy': {
    wording: 'A reload of HAProxy (SIGUSR2) loses none either',
    page: 'docs/haproxy.md',
    under: 'HAProxy is reloaded',
    cost: 'nothing',
  },
  'haproxy-weights': {
    wording: '`up ready 60%` otherwise: the share of its weight that it can take now',
    page: 'docs/haproxy.md',
    under: 'an instance behind HAProxy fails, waits, computes, starts, or has a weight of its own',
    cost: 'the responses of that instance',
  },
  'haproxy-dns': {
    wording: 'HAProxy follows DNS, so scaling needs no restart',
    page: 'docs/haproxy.md',
    under: 'instances of a name are added and removed',
    cost: 'nothing',
  },
  'all-drain': {
    wording: 'When no instance is in rotation, all are tried: a draining instance still serves requests',
    page: 'docs/haproxy.md',
    under: 'every instance behind HAProxy drains',
    cost: 'nothing',
  },
  'front-killed': {
    wording: 'A load balancer that is killed loses its requests in flight, and repeats none after its restart',
    page: 'docs/deploy.md',
    under: 'the load balancer is killed with SIGKILL, and started again',
    cost: 'an error for each request in flight, and refused connections until it listens again',
  },
  // ---- Several hosts
  'several-hosts': {
    wording: 'In a partition each side does what these tables show',
    page: 'docs/guarantees.md',
    under:
      'a host dies, is cut off from the others or from a server, receives or sends nothing, is slow or loses packets',
    cost: 'an unsafe request that was in flight on a host that is lost; a GET waits until its front gives up on that host',
  },
} as const satisfies Record<string, PromiseLine>

export type PromiseId = keyof typeof promises
