import type { Report } from '../../../src/cli/smoke/report.ts'

/** A report with a finding of each status. */
export const sampleReport = (given: Partial<Report> = {}): Report => ({
  ...{ url: 'http://front', startedAt: '2026-01-02T03:04:05.678Z', durationMs: 1_250, verdict: 'pass' },
  findings: [
    { check: 'health', status: 'pass', text: 'fine' },
    { check: 'load', status: 'fail', text: 'uneven', fix: 'look' },
    { check: 'health', status: 'skip', text: 'unknown' },
    { check: 'load', status: 'info', text: 'note' },
  ],
  ...given,
})
