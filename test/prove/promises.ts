import { data } from './promises/data.ts'
import { faults } from './promises/faults.ts'
import { fronts } from './promises/fronts.ts'
import { instance } from './promises/instance.ts'
import { processes } from './promises/processes.ts'
import { proxies } from './promises/proxies.ts'
import { readme } from './promises/readme.ts'
import { scale } from './promises/scale.ts'
import { state } from './promises/state.ts'

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
  /** Tests of `npm test` that show it as well: `file › title`, with `*` for what a template inserts, or whole files. */
  tests?: readonly string[]
}

/** Each line of docs/guarantees.md. Proofs (`prove()`) name the key. */
export const promises = {
  ...readme,
  ...instance,
  ...processes,
  ...proxies,
  ...state,
  ...data,
  ...fronts,
  ...scale,
  ...faults,
} as const satisfies Record<string, PromiseLine>

export type PromiseId = keyof typeof promises
