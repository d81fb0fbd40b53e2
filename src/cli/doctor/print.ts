import { type Output, plural } from '../output.ts'
import type { Finding } from './evaluate.ts'
import type { Examination, FileReport, UnreadFile } from './run.ts'
import { timelines } from './timeline.ts'

/** An examination without the findings that are ignored. */
export type Judged = Pick<Examination, 'read' | 'budgets'> & {
  readonly findings: readonly Finding[]
  readonly unread: readonly UnreadFile[]
}

/** Of each file; `--json` has all of them. */
const maxReasons = 5
const maxUnread = 20

/** A recognised file without facts, unless another one includes it. */
const isSilent = ({ facts, partOf }: FileReport): boolean => facts === 0 && partOf === undefined

/** Whether there are certain findings or, if `strict`, anything that was assumed or not found. */
export const hasFailed = ({ findings, read, unread }: Judged, strict: boolean): boolean =>
  findings.some(({ confidence }) => strict || confidence === 'certain') ||
  (strict && (read.some(isSilent) || unread.some(({ named }) => named === true)))

export function printReport(judged: Judged, out: Output, verbose: boolean): void {
  const { findings, read, unread, budgets } = judged
  for (const { file, line, address, code, message, fix, assumed } of findings) {
    out.line(
      `${file}:${line} ${out.style(assumed === undefined ? 'red' : 'yellow', code)}${address ? ` ${address}` : ''}`,
    )
    out.line(`  ${message}`)
    if (assumed !== undefined) out.line(`  warning: this assumes that ${assumed}`)
    out.line(`  fix: ${fix}`)
  }
  if (findings.length > 0) out.line()
  for (const report of read) if (report.partOf === undefined || verbose) printFile(report, read, out, verbose)
  printUnread(unread, out)
  const columns = out.terminalColumns
  if (columns !== undefined && budgets.length > 0) {
    out.line()
    out.line('The drain budget:')
    for (const line of timelines(budgets, columns)) out.line(line)
  }
  out.line()
  out.line(summaryOf(judged))
}

function printFile(report: FileReport, all: readonly FileReport[], out: Output, verbose: boolean): void {
  const { file, kind, facts, rules, unjudged } = report
  const parts = verbose ? 0 : all.filter(({ partOf }) => partOf === file).length
  const includes = parts > 0 ? `, includes ${plural(parts, 'file')}` : ''
  const warning = isSilent(report) ? ` ${out.style('yellow', 'warning: nothing was found in it')}` : ''
  out.line(`${file}: ${kind}, ${plural(facts, 'fact')}, ${plural(rules.length, 'rule')} applied${includes}${warning}`)
  if (verbose && rules.length > 0) out.line(`  applied: ${rules.join(' ')}`)
  for (const { line, why, codes } of unjudged.slice(0, verbose ? undefined : maxReasons))
    out.line(`  not judged${codes ? ` (${codes.join(' ')})` : ''}: line ${line}, ${why}`)
  if (!verbose && unjudged.length > maxReasons)
    out.line(`  not judged: ${unjudged.length - maxReasons} more, see --verbose`)
}

/** Every file that was named, and the first ones of folders. */
function printUnread(unread: readonly UnreadFile[], out: Output): void {
  const shown = unread.filter(({ named }, i) => named || i < maxUnread)
  for (const { file, why } of shown) out.line(`${file}: not read: ${why}`)
  if (shown.length < unread.length)
    out.line(`not read: ${plural(unread.length - shown.length, 'more file')}, see --json`)
}

/** Never calls files without a problem right that no rule was applied to. */
function summaryOf({ findings, read }: Judged): string {
  const failures = findings.filter(({ confidence }) => confidence === 'certain').length
  const warnings = findings.length - failures + read.filter(isSilent).length
  const rules = new Set(read.flatMap((report) => report.rules)).size
  const facts = read.reduce((sum, report) => sum + report.facts, 0)
  const clean = rules > 0 ? 'no problems' : 'nothing was judged'
  const problems = failures > 0 ? `${plural(failures, 'problem')}; see docs/doctor.md` : clean
  const more = warnings > 0 ? `, ${plural(warnings, 'warning')}` : ''
  return `${plural(read.length, 'file')} read, ${plural(facts, 'fact')}, ${plural(rules, 'rule')} applied, ${problems}${more}`
}
