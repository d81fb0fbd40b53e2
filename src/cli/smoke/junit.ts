import type { CheckResult, Report } from './report.ts'

/** Escapes texts of instances for XML, which forbids most control characters. */
const escaped = (value: unknown): string =>
  String(value)
    .replace(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd]/g, '\ufffd')
    .replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)

/**
 * The report in the XML of JUnit, which CI systems display: a test case for each check. Their names stay the same from run to
 * run, unlike the texts of the findings.
 */
export function junit(report: Report): string {
  const checks = [...Map.groupBy(report.findings, ({ check }) => check)]
  return suite(
    report,
    checks.map(([check, findings]) => testCase(check, findings)),
  )
}

/** The XML for a test that could not run. */
export function junitError(
  url: string,
  startedAt: string,
  { code, message }: { code: string; message: string },
): string {
  const error = `<error type="${escaped(code)}" message="${escaped(message)}"/>`
  return suite({ url, startedAt, durationMs: 0 }, [`<testcase classname="fleet test" name="run">${error}</testcase>`])
}

function testCase(check: string, findings: readonly CheckResult[]): string {
  const failed = findings.filter(({ status }) => status === 'fail')
  const passed = findings.some(({ status }) => status === 'pass' || status === 'info')
  const skipped = findings.filter(({ status }) => status === 'skip')
  const line = ({ status, text, fix }: CheckResult): string => `${status} ${text}${fix ? ` → ${fix}` : ''}`
  const texts = (all: readonly CheckResult[]): string => escaped(all.map(line).join('\n'))
  const message = escaped(failed.map(({ text }) => text).join('; '))
  const result =
    failed.length > 0
      ? `<failure type="${escaped(check)}" message="${message}">${texts(failed)}</failure>`
      : !passed && skipped.length > 0
        ? `<skipped message="${escaped(skipped.map(({ text }) => text).join('; '))}"/>`
        : ''
  const out = `<system-out>${texts(findings)}</system-out>`
  return `<testcase classname="fleet test" name="${escaped(check)}">${result}${out}</testcase>`
}

function suite(
  { url, startedAt, durationMs }: Pick<Report, 'url' | 'startedAt' | 'durationMs'>,
  cases: string[],
): string {
  const having = (element: string): number => cases.filter((each) => each.includes(`<${element} `)).length
  const counts = `tests="${cases.length}" failures="${having('failure')}" errors="${having('error')}" skipped="${having('skipped')}"`
  const time = (durationMs / 1000).toFixed(3)
  return `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="fleet test" ${counts} time="${time}">
<testsuite name="${escaped(url)}" ${counts} time="${time}" timestamp="${escaped(startedAt.slice(0, 19))}">
${cases.join('\n')}
</testsuite>
</testsuites>
`
}
