import type { Fit } from './chi-square.ts'

/** `info` has no verdict; `skip` could not be checked, for the reason in its text. */
export type Status = 'pass' | 'fail' | 'skip' | 'info'

/** The result of a check, with a fix when it failed. */
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
  /** The expected number of requests by its weight. */
  readonly expected: number
  /** Response times measured by this client, ms. */
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
  /** The expected number of instances, if known. */
  readonly expectedInstances?: number
  readonly findings: readonly Finding[]
  readonly distribution?: Distribution
}

/** Collects the findings of one check. */
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
