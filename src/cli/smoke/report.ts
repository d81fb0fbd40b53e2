import type { Fit } from './chi-square.ts'

/** `info` is told and not judged; `skip` could not be judged, and its text says why. */
export type Status = 'pass' | 'fail' | 'skip' | 'info'

/** What one check found, in one sentence, and the fix when it failed. */
export interface Finding {
  readonly check: string
  readonly status: Status
  readonly text: string
  readonly fix?: string
}

/** One instance's share of the sample. */
export interface Share {
  readonly instanceId: string
  readonly requests: number
  /** What it should have had by its weight; requests. */
  readonly expected: number
  /** Response times as this client saw them, in milliseconds. */
  readonly p50: number
  readonly p95: number
}

export interface Distribution {
  readonly requests: number
  readonly failed: number
  readonly shares: readonly Share[]
  readonly fit?: Fit
}

export interface Report {
  readonly url: string
  /** ISO 8601. */
  readonly startedAt: string
  readonly durationMs: number
  readonly verdict: 'pass' | 'fail'
  /** How many instances the fleet should have, when that could be learned. */
  readonly expectedInstances?: number
  readonly findings: readonly Finding[]
  readonly distribution?: Distribution
}

/** Findings of one check, in the words it uses again and again. */
export class Findings {
  readonly list: Finding[] = []
  readonly #check: string

  constructor(check: string) {
    this.#check = check
  }

  pass(text: string): void {
    this.list.push({ check: this.#check, status: 'pass', text })
  }

  fail(text: string, fix?: string): void {
    this.list.push({ check: this.#check, status: 'fail', text, fix })
  }

  skip(text: string, fix?: string): void {
    this.list.push({ check: this.#check, status: 'skip', text, fix })
  }

  info(text: string): void {
    this.list.push({ check: this.#check, status: 'info', text })
  }
}
