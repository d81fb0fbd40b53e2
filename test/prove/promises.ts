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
  'several-hosts': {
    wording: 'In a partition each side does what these tables show',
    page: 'docs/guarantees.md',
    under:
      'a host dies, is cut off from the others or from a server, receives or sends nothing, is slow or loses packets',
    cost: 'an unsafe request that was in flight on a host that is lost; a GET waits until its front gives up on that host',
  },
} as const satisfies Record<string, PromiseLine>

export type PromiseId = keyof typeof promises
