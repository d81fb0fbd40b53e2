import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { page } from '../../../src/cli/smoke/html.ts'
import { sampleReport as report } from './sample-report.ts'

describe('the HTML report', () => {
  it('has the verdict, the counts, the time and each finding under its check', () => {
    const html = page(report())
    assert.match(html, /<title>Fleet test of http:\/\/front: passed<\/title>/)
    assert.match(html, /<p class="verdict pass">✓ passed<\/p>/)
    assert.match(
      html,
      /<p>1 checks passed, 1 failed, 1 skipped ·\n<time datetime="2026-01-02T03:04:05\.678Z">2026-01-02 03:04:05 UTC<\/time> ·\n1\.3 s<\/p>/,
    )
    const rows = (...items: string[]): string => items.join('')
    const fine = '<li class="pass"><b>passed</b><span>fine</span></li>'
    const unknown = '<li class="skip"><b>skipped</b><span>unknown</span></li>'
    assert.ok(html.includes(`<section><h2>health</h2><ul>${rows(fine, unknown)}</ul></section>`))
    const uneven = '<li class="fail"><b>failed</b><span>uneven<br><small>→ look</small></span></li>'
    assert.ok(
      html.includes(
        `<section><h2>load</h2><ul>${uneven}<li class="info"><b>info</b><span>note</span></li></ul></section>`,
      ),
    )
    assert.doesNotMatch(html, /<svg/)
    const failed = page(report({ verdict: 'fail' }))
    assert.match(failed, /: failed<\/title>[\s\S]*<p class="verdict fail">✗ failed<\/p>/)
    assert.match(html, /content="default-src 'none'; style-src 'unsafe-inline'"/)
  })

  it('draws shares against the widest and times against the slowest, and marks the expected share', () => {
    const share = (instanceId: string, requests: number, expected: number, p50: number, p95: number) => ({
      instanceId,
      requests,
      expected,
      p50,
      p95,
    })
    const fit = { statistic: 1, degreesOfFreedom: 1, p: 0.5, reliable: true }
    const shares = [share('a', 50, 100, 5, 10), share('b', 200, 100.4, 20, 40)]
    const html = page(report({ distribution: { requests: 250, failed: 3, p95: 40, shares, fit } }))
    assert.match(
      html,
      /<p>250 requests over separate connections, 3 failed\. χ²\(1\) = 1\.00, p = 0\.5000\. The line marks the expected share\.<\/p>/,
    )
    const bar = (kind: string, width: string): string => `<rect class="${kind}" width="${width}" height="14" rx="2"/>`
    const mark = (x: string): string => `<line class="mark" x1="${x}" x2="${x}" y1="0" y2="14"/>`
    for (const drawn of [
      `<dt>a</dt><dd><svg aria-hidden="true">${bar('value', '25.00%')}${mark('50.00%')}</svg><span>50 of 100 expected</span></dd>`,
      `<dt>b</dt><dd><svg aria-hidden="true">${bar('value', '100.00%')}${mark('50.20%')}</svg><span>200 of 100 expected</span></dd>`,
      `<svg aria-hidden="true">${bar('faint', '25.00%')}${bar('value', '12.50%')}</svg><span>p50 5.0 ms, p95 10.0 ms</span>`,
      `<svg aria-hidden="true">${bar('faint', '100.00%')}${bar('value', '50.00%')}</svg><span>p50 20.0 ms, p95 40.0 ms</span>`,
    ])
      assert.ok(html.includes(drawn), drawn)
    const widest = page(
      report({ distribution: { requests: 1, failed: 0, p95: 1, shares: [share('a', 0, 100, 0, 0)] } }),
    )
    assert.ok(widest.includes(mark('99.50%')), 'within the drawing')
    assert.match(widest, /0 failed\. The line/)
  })

  it('escapes each character of HTML', () => {
    const html = page(report({ url: `&<>"'` }))
    assert.ok(html.includes('<h1>&amp;&lt;&gt;&quot;&#39;</h1>'))
  })
})
