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

export type PromiseId = keyof typeof promises
