import { escaped } from './escaped.ts'
import { describe } from './load.ts'
import type { CheckResult, Distribution, Report, Status } from './report.ts'
import { timelineChart, timelineStyle } from './timeline-chart.ts'

const words: Readonly<Record<Status, string>> = { pass: 'passed', fail: 'failed', skip: 'skipped', info: 'info' }

/** The report as a self-contained HTML page, without scripts, fonts or links. */
export function page(report: Report): string {
  const number = (status: Status): number => report.findings.filter((finding) => finding.status === status).length
  const checks = [...new Set(report.findings.map(({ check }) => check))]
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Fleet test of ${escaped(report.url)}: ${report.verdict === 'pass' ? 'passed' : 'failed'}</title>
<style>${style}${timelineStyle}</style>
<main>
<header>
<h1>${escaped(report.url)}</h1>
<p class="verdict ${report.verdict}">${report.verdict === 'pass' ? '✓ passed' : '✗ failed'}</p>
<p>${number('pass')} checks passed, ${number('fail')} failed, ${number('skip')} skipped ·
<time datetime="${escaped(report.startedAt)}">${escaped(report.startedAt.replace('T', ' ').slice(0, 19))} UTC</time> ·
${(report.durationMs / 1000).toFixed(1)} s</p>
</header>
${report.distribution ? charts(report.distribution) : ''}
${(report.timelines ?? []).map(timelineChart).join('\n')}
${checks.map((check) => section(check, report.findings)).join('\n')}
</main>
</html>
`
}

function section(check: string, findings: readonly CheckResult[]): string {
  const rows = findings
    .filter((finding) => finding.check === check)
    .map(({ status, text, fix }) => {
      const more = fix ? `<br><small>→ ${escaped(fix)}</small>` : ''
      return `<li class="${status}"><b>${words[status]}</b><span>${escaped(text)}${more}</span></li>`
    })
  return `<section><h2>${escaped(check)}</h2><ul>${rows.join('')}</ul></section>`
}

function charts({ requests, failed, shares, fit }: Distribution): string {
  const widest = Math.max(1, ...shares.map((share) => Math.max(share.requests, share.expected)))
  const slowest = Math.max(0.1, ...shares.map(({ p95 }) => p95))
  const byShare = shares.map((share) => ({
    label: share.instanceId,
    text: `${share.requests} of ${Math.round(share.expected)} expected`,
    bars: [{ kind: 'value', part: share.requests / widest }],
    mark: share.expected / widest,
  }))
  const byTime = shares.map(({ instanceId, p50, p95 }) => ({
    label: instanceId,
    text: `p50 ${p50.toFixed(1)} ms, p95 ${p95.toFixed(1)} ms`,
    bars: [
      { kind: 'faint', part: p95 / slowest },
      { kind: 'value', part: p50 / slowest },
    ],
  }))
  const result = fit ? ` ${escaped(describe(fit))}.` : ''
  return `<section><h2>Requests by instance</h2>
<p>${requests} requests over separate connections, ${failed} failed.${result} The line marks the expected share.</p>
${chart(byShare)}</section>
<section><h2>Response times by instance</h2>
<p>Measured by this client over new connections: median, and 95th percentile behind it.</p>
${chart(byTime)}</section>`
}

interface Row {
  label: string
  text: string
  bars: { kind: string; part: number }[]
  mark?: number
}

/** Bars as SVG with their values as text, so that the drawing is not needed. */
function chart(rows: readonly Row[]): string {
  const percent = (part: number): string => `${(part * 100).toFixed(2)}%`
  const drawn = rows.map(({ label, text, bars, mark }) => {
    const rects = bars.map(({ kind, part }) => `<rect class="${kind}" width="${percent(part)}" height="14" rx="2"/>`)
    const x = mark === undefined ? '' : percent(Math.min(mark, 0.995))
    const line = mark === undefined ? '' : `<line class="mark" x1="${x}" x2="${x}" y1="0" y2="14"/>`
    return `<dt>${escaped(label)}</dt><dd><svg aria-hidden="true">${rects.join('')}${line}</svg><span>${escaped(text)}</span></dd>`
  })
  return `<dl>${drawn.join('')}</dl>`
}

const style = `
:root{color-scheme:light dark;--ink:light-dark(#1b1f24,#e6e8eb);--soft:light-dark(#5c6570,#9aa3ad);--line:light-dark(#dfe3e8,#30363d);
--page:light-dark(#fff,#14171b);--value:light-dark(#2f6fdb,#6ea2f5);--pass:light-dark(#1a7f43,#5fd08b);--fail:light-dark(#c02b2b,#ff8b85);--skip:light-dark(#8a6100,#e3b341)}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:52rem;margin:0 auto;padding:2rem 1rem 4rem}
h1{font-size:1.4rem;margin:0;overflow-wrap:anywhere}h2{font-size:1rem;margin:2rem 0 .5rem}h2::first-letter{text-transform:uppercase}
header p,section>p,small{color:var(--soft);margin:.25rem 0}
.verdict{font-size:1.2rem;font-weight:600}.verdict.pass{color:var(--pass)}.verdict.fail{color:var(--fail)}
ul{list-style:none;margin:0;padding:0;border-top:1px solid var(--line)}
li{display:grid;grid-template-columns:5rem 1fr;padding:.4rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
li b{font-weight:600;color:var(--soft)}li.pass b{color:var(--pass)}li.fail b{color:var(--fail)}li.skip b{color:var(--skip)}
dl{margin:.5rem 0 0}dt{font-family:ui-monospace,monospace;font-size:.85rem;overflow-wrap:anywhere}
dd{margin:0 0 .6rem;display:flex;flex-wrap:wrap;gap:0 1rem;align-items:center;color:var(--soft)}
svg{flex:1 1 16rem;height:14px}dd span{flex:0 0 13rem;font-variant-numeric:tabular-nums}
.value{fill:var(--value)}.faint{fill:var(--value);opacity:.3}.mark{stroke:var(--ink);stroke-width:2}
`
