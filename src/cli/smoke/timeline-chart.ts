import { seconds } from './background-load.ts'
import { sum } from './context.ts'
import { escaped } from './escaped.ts'
import type { Timeline } from './report.ts'

const colours = 8
const height = 100
/** Below the columns, marks of the intervals in which requests failed. */
const marks = { y: 103, height: 7 }

const titles: Readonly<Record<Timeline['check'], string>> = {
  failover: 'Requests while an instance was drained',
  kill: 'Requests while an instance was killed',
}

/** Columns of requests by interval, stacked by instance, with failures on top and marked below. The figures are in the text. */
export function timelineChart({ check, bucketMs, instances, failed, events }: Timeline): string {
  const totals = failed.map((count, i) => instances.reduce((sum, { requests }) => sum + (requests[i] ?? 0), count))
  const highest = Math.max(1, ...totals)
  const heights = new Array<number>(failed.length).fill(0)
  /** Draws one more layer of the columns. */
  const layer = (counts: readonly number[], name: string): string => {
    const path = counts.map((count, i) => {
      if (count === 0) return ''
      const from = heights[i] ?? 0
      heights[i] = from + count
      return `M${i} ${height - tenths((from * height) / highest)}h1v-${tenths((count * height) / highest)}h-1z`
    })
    return `<path class="${name}" d="${path.join('')}"/>`
  }
  const layers = [...instances.map(({ requests }, i) => layer(requests, `s${i % colours}`)), layer(failed, 'bad')]
  const failures = failed.flatMap((count, i) => (count > 0 ? [`M${i} ${marks.y}h1v${marks.height}h-1z`] : []))
  const lines = events.map(({ atMs }) => `<path class="event" d="M${tenths(atMs / bucketMs)} 0V${height}"/>`)
  const all = sum(failed)
  const legend = [
    ...instances.map(({ instanceId, requests }, i) => key(`s${i % colours}`, `${instanceId}: ${sum(requests)}`)),
    key(
      'bad',
      `failed: ${all}${all > 0 ? ` (from ${at(failed.findIndex(Boolean))} to ${at(failed.findLastIndex(Boolean) + 1)})` : ''}`,
    ),
  ]
  function at(bucket: number): string {
    return seconds(bucket * bucketMs)
  }
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => `<span>${at(part * failed.length)}</span>`)
  return `<section><h2>${titles[check]}</h2>
<p>Requests per ${bucketMs} ms, at most ${highest}; failed ones are red, and marked below the columns.</p>
<svg class="timeline" viewBox="0 0 ${failed.length} ${marks.y + marks.height}" preserveAspectRatio="none" aria-hidden="true">
${[...layers, `<path class="bad" d="${failures.join('')}"/>`, ...lines].join('\n')}</svg>
<p class="ticks">${ticks.join('')}</p>
<p class="legend">${legend.join('')}</p>
<p>${events.map((event) => `${seconds(event.atMs)}: ${escaped(event.text)}`).join(' · ')}</p></section>`
}

const key = (name: string, text: string): string => `<span><i class="${name}"></i>${escaped(text)}</span>`
const tenths = (value: number): number => Math.round(value * 10) / 10

const hues = ['#2f6fdb', '#2a9d8f', '#8d5fd3', '#c77d0a', '#4b7f2c', '#b8488f', '#3a7ca5', '#7a6f5d']
export const timelineStyle: string = `
svg.timeline{display:block;width:100%;height:150px;border-bottom:1px solid var(--line)}
.bad{fill:var(--fail);background:var(--fail)}.event{stroke:var(--ink);stroke-dasharray:3 2;vector-effect:non-scaling-stroke}
.ticks{display:flex;justify-content:space-between;font-size:.8rem}.legend span{margin-right:1rem;white-space:nowrap}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.35em;border-radius:2px}
${hues.map((hue, i) => `.s${i}{fill:${hue};background:${hue}}`).join('')}
`
