import type { PromiseLine } from '../promises.ts'

export const scale = {
  'several-hosts': {
    wording: 'In a partition each side does what these tables show',
    page: 'docs/guarantees.md',
    under:
      'a host dies, is cut off from the others or from a server, receives or sends nothing, is slow or loses packets',
    cost: 'an unsafe request that was in flight on a host that is lost; a GET waits until its front gives up on that host',
  },
  'fleet-size': {
    wording: 'Its cost does not depend on the size of the fleet.',
    page: 'docs/registry.md',
    under: 'a fleet of up to 1,000 instances, of which a quarter dies at once',
    cost: 'nothing',
  },
  level: {
    wording: 'memory, handles and keys stay level under a steady load',
    page: 'docs/bounds.md',
    under: 'an hour of half the load that the fleet can serve, with every feature',
    cost: 'nothing',
  },
  'session-memory': {
    wording: 'The memory that sessions need in Redis',
    page: 'docs/sessions.md',
    under: 'ten million users who are logged in',
    cost: 'nothing',
  },
  'cluster-spread': {
    wording: 'On a Cluster the keys spread evenly over the nodes',
    page: 'docs/sessions.md',
    under: 'every feature on a Redis Cluster of three primaries, each with a replica',
    cost: 'nothing',
  },
} as const satisfies Record<string, PromiseLine>
