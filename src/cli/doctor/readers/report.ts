import { type Place, passed, type Reading, unjudged, type Violation, violation } from '../facts.ts'
import type { RuleCode } from '../rules.ts'

/** Collects the outcome of rules. */
export class Report {
  readonly readings: Reading[] = []

  check(
    code: RuleCode,
    fails: boolean,
    at: Place,
    detail?: string,
    more?: Pick<Violation, 'assumed' | 'edit' | 'ofFleet'>,
  ): void {
    this.readings.push(fails ? violation(code, at, detail, more) : passed(code, at))
  }

  unjudged(at: Place, why: string, codes: readonly string[]): void {
    this.readings.push(unjudged(at, why, codes))
  }
}
