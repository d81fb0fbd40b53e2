import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Finding } from '../../../src/cli/doctor/evaluate.ts'
import { hasFailed, type Judged, printReport } from '../../../src/cli/doctor/print.ts'
import type { FileReport, UnreadFile } from '../../../src/cli/doctor/run.ts'
import { sarifOf } from '../../../src/cli/doctor/sarif.ts'
import { timelines } from '../../../src/cli/doctor/timeline.ts'
import { Output } from '../../../src/cli/output.ts'

const finding = (confidence: 'certain' | 'assumed', more: Partial<Finding> = {}): Finding => ({
  ...{ code: 'DOCTOR_GRACE', file: 'a.conf', line: 3, message: 'too short', fix: 'raise it', confidence },
  ...(confidence === 'assumed' && { assumed: 'nothing is set' }),
  ...more,
})
const file = (more: Partial<FileReport> = {}): FileReport => ({
  ...{ file: 'a.conf', kind: 'nginx', facts: 1, rules: ['DOCTOR_GRACE'], unjudged: [] },
  ...more,
})
const judged = (more: Partial<Judged> = {}): Judged => ({
  ...{ findings: [], read: [file()], unread: [], budgets: [] },
  ...more,
})

function printed(report: Judged, verbose = false): string[] {
  let text = ''
  const write = (more: string): void => {
    text += more
  }
  printReport(report, new Output({ stdout: { write } }), verbose)
  return text.trimEnd().split('\n')
}

describe('an examination', () => {
  const fails = (more: Partial<Judged>): [loose: boolean, strict: boolean] => [
    hasFailed(judged(more), false),
    hasFailed(judged(more), true),
  ]

  it('fails for certain findings, if strict also for assumed ones', () => {
    assert.deepEqual(fails({}), [false, false])
    assert.deepEqual(fails({ findings: [finding('certain')] }), [true, true])
    assert.deepEqual(fails({ findings: [finding('assumed')] }), [false, true])
  })

  it('fails if strict for files without facts, unless they are part of others, and for named ones that were not read', () => {
    assert.deepEqual(fails({ read: [file({ facts: 0 })] }), [false, true])
    assert.deepEqual(fails({ read: [file({ facts: 0, partOf: 'b.conf' })] }), [false, false])
    const unread: UnreadFile = { file: 'x', why: 'y' }
    assert.deepEqual(fails({ unread: [unread] }), [false, false])
    assert.deepEqual(fails({ unread: [{ ...unread, named: true }] }), [false, true])
  })
})

describe('the report', () => {
  it('has each finding with what it assumes, and counts problems and warnings', () => {
    const findings = [finding('certain', { address: 'aws_lb.x' }), finding('assumed')]
    assert.deepEqual(printed(judged({ findings, read: [file(), file({ facts: 0, rules: [] })] })), [
      'a.conf:3 DOCTOR_GRACE aws_lb.x',
      '  too short',
      '  fix: raise it',
      'a.conf:3 DOCTOR_GRACE',
      '  too short',
      '  warning: this assumes that nothing is set',
      '  fix: raise it',
      '',
      'a.conf: nginx, 1 fact, 1 rule applied',
      'a.conf: nginx, 0 facts, 0 rules applied warning: nothing was found in it',
      '',
      '2 files read, 1 fact, 1 rule applied, 1 problem; see docs/doctor.md, 2 warnings',
    ])
  })

  it('has five reasons per file, and all with --verbose', () => {
    const unjudged = Array.from({ length: 7 }, (_, i) => ({ line: i + 1, why: 'x', codes: ['DOCTOR_GRACE'] }))
    const read = [file({ unjudged })]
    const reasons = (verbose: boolean): string[] =>
      printed(judged({ read }), verbose).filter((one) => /not judg/.test(one))
    assert.equal(reasons(false).length, 6)
    assert.equal(reasons(false).at(-1), '  not judged: 2 more, see --verbose')
    assert.deepEqual([reasons(true).length, reasons(true)[6]], [7, '  not judged (DOCTOR_GRACE): line 7, x'])
  })

  it('counts files that are part of another, and lists them with --verbose', () => {
    const read = [file(), file({ file: 'b.conf', partOf: 'a.conf' })]
    assert.deepEqual(printed(judged({ read })).slice(0, 2), [
      'a.conf: nginx, 1 fact, 1 rule applied, includes 1 file',
      '',
    ])
    assert.match(printed(judged({ read }), true).join('\n'), /^b\.conf: nginx/m)
  })

  it('names twenty files that were not read, and every one that the user named', () => {
    const unread = Array.from({ length: 25 }, (_, i) => ({ file: `${i}`, why: 'x', named: i === 24 }))
    const lines = printed(judged({ unread })).filter((one) => /not read/.test(one))
    assert.equal(lines.length, 22)
    assert.deepEqual(lines.slice(-2), ['24: not read: x', 'not read: 4 more files, see --json'])
  })
})

describe('the timeline', () => {
  const budget = { name: 'app', preStop: 0, drain: 5_000, shutdown: 30_000, assumed: [] }
  const marks = (lines: readonly string[]): string[] => lines.slice(2).map((line) => line.replace(/^\s*╰?/, ''))

  it('begins before SIGTERM by the time of preStop', () => {
    assert.deepEqual(marks(timelines([{ ...budget, preStop: 2_000, grace: 40_000 }], 80)), [
      '2 s SIGTERM',
      '7 s the listener closes',
      '32 s requests are cut',
      '40 s SIGKILL',
    ])
  })

  it('is drawn once for instances with the same times, and for six different ones', () => {
    const same = ['a', 'b', 'c'].map((name) => ({ ...budget, name }))
    const all = Array.from({ length: 9 }, (_, i) => ({ ...budget, name: `x${i}`, shutdown: 30_000 + i }))
    const names = timelines([...same, ...all.slice(1)], 80).filter((line) => /^\w/.test(line))
    assert.deepEqual(names, ['a and 2 more', 'x1', 'x2', 'x3', 'x4', 'x5'])
  })

  it('has between 30 and 96 columns', () => {
    const width = (columns: number): number => (timelines([budget], columns)[1] ?? '').trim().length
    assert.deepEqual([10, 60, 100, 500].map(width), [30, 56, 96, 96])
  })
})

it('the log of SARIF has errors and warnings, with what they assume, at their places', () => {
  const log = sarifOf([finding('certain'), finding('assumed', { line: 9, address: 'aws_lb.x' })], '1.0.0')
  const { runs } = log as { runs: { results: Record<string, unknown>[] }[] }
  const place = (line: number) => ({ artifactLocation: { uri: 'a.conf' }, region: { startLine: line } })
  assert.deepEqual(
    runs[0]?.results.map(({ level, message, locations }) => ({ level, message, locations })),
    [
      {
        level: 'error',
        message: { text: 'too short. Fix: raise it' },
        locations: [{ physicalLocation: place(3) }],
      },
      {
        level: 'warning',
        message: { text: 'too short (assumes that nothing is set). Fix: raise it' },
        locations: [{ physicalLocation: place(9), logicalLocations: [{ fullyQualifiedName: 'aws_lb.x' }] }],
      },
    ],
  )
})
