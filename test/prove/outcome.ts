import { existsSync, readFileSync } from 'node:fs'
import type { PromiseId } from './promises.ts'

/** Counts of a proof. Further names are printed as they are. */
export interface Counts {
  /** Requests sent. */
  requests: number
  /** Requests without the promised response. */
  failed: number
  /** Requests that may change something, lost in flight on a process or server that was killed, as the promise says. */
  inFlight: number
  /** Requests that may change something and were executed more than once. */
  twice: number
  [name: string]: number
}

/** The outcome of one proof: one line of `results.jsonl`, and one row of the report. */
export interface Outcome {
  file: string
  name: string
  /** None if its file ended outside its proofs. */
  promise: PromiseId | undefined
  status: 'passed' | 'failed' | 'skipped'
  /** Why it failed or was skipped. */
  reason?: string
  mode: Mode
  seed: number
  counts: Partial<Counts>
  notes: string[]
  /** When it started, ISO 8601. */
  started: string
  durationMs: number
}

export type Mode = 'quick' | 'full'

/** The outcomes that a folder holds. */
export function outcomes(file: string): Outcome[] {
  if (!existsSync(file)) return []
  const lines = readFileSync(file, 'utf8').split('\n')
  return lines.flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Outcome]))
}
