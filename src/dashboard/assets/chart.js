// A chart over time: axes with units, lines with gaps where there is no data, marks for events, and figures under the pointer or,
// with the arrow keys, under the cursor. All charts of the page share one cursor.

const charts = []
/** Time that all charts read out, or `undefined` for the newest. */
let cursor
const plot = { height: 150, left: 52, right: 10, top: 8, bottom: 22 }

/** The shortest round step that divides the scale into at most `count` parts. */
function roundStep(top, count) {
  const raw = top / count
  const size = 10 ** Math.floor(Math.log10(raw))
  return [1, 2, 2.5, 5, 10].map((factor) => factor * size).find((step) => step >= raw * 0.999)
}

const timeSteps = [60_000, 300_000, 900_000, 3_600_000, 10_800_000, 14_400_000, 21_600_000]
/** Round times in the zone of the browser. */
function timeTicks(from, to, count) {
  const step = timeSteps.find((ms) => (to - from) / ms <= count) ?? timeSteps.at(-1)
  const offset = new Date(to).getTimezoneOffset() * 60_000
  const ticks = []
  for (let at = Math.ceil((from - offset) / step) * step + offset; at <= to; at += step) ticks.push(at)
  return ticks
}

/** Coordinates of the values, in one list for each stretch without a gap. */
function stretches(points, value, x, y, stepMs) {
  const all = []
  let last
  for (const point of points) {
    const v = value(point)
    if (!Number.isFinite(v)) continue
    if (last === undefined || point.at - last > stepMs * 1.5) all.push([])
    all.at(-1).push(`${x(point.at).toFixed(1)} ${y(v).toFixed(1)}`)
    last = point.at
  }
  return all
}

/** A value between two gaps becomes a dot. */
const linePath = (all) => all.map((one) => `M${one.join('L')}${one.length === 1 ? 'h0.01' : ''}`).join('')
const areaPath = (all, bottom) => all.map((one) => `M${one.join('L')}V${bottom}H${one[0].split(' ')[0]}Z`).join('')

/**
 * @param title with the unit
 * @param series `{ name, value(point), color }`, drawn in this order; a single one with the area below it
 * @param write a value as text
 * @param least top of the scale at least, so that noise does not look like load
 */
function createChart({ title, series, write, least = 1, most = Number.POSITIVE_INFINITY }) {
  const heading = create('h3', { text: title })
  const when = create('span', { class: 'when' })
  const legend = create('ul', { class: 'legend' })
  const classes = series.map(({ color }, i) => `series-${color ?? i + 1}`)
  const values = series.map(({ name }, i) => {
    const value = create('b', { text: '–' })
    legend.append(create('li', { class: classes[i] }, create('span', { text: name }), ' ', value))
    return value
  })
  const svg = createSvg('svg', { 'aria-hidden': 'true', height: plot.height })
  const [grid, marks, lines] = [createSvg('g'), createSvg('g'), createSvg('g')]
  const rule = createSvg('line', { class: 'rule', y1: plot.top, y2: plot.height - plot.bottom })
  svg.append(grid, marks, lines, rule)
  const empty = create('p', { class: 'empty', text: 'No data in this range' })
  const slider = create('div', { class: 'plot', role: 'slider', tabindex: '0', 'aria-label': title }, svg, empty)
  const element = create(
    'figure',
    { class: 'panel chart' },
    create('div', { class: 'head' }, heading, when),
    legend,
    slider,
  )
  let data = { points: [], events: [], from: 0, to: 1, stepMs: 1 }
  let [width, drawn] = [0, '']

  const x = (at) => plot.left + ((at - data.from) / (data.to - data.from)) * (width - plot.left - plot.right)

  function draw() {
    const { points, events, from, to, stepMs } = data
    const key = [width, from, to, points.length, points.at(-1)?.at, events.length].join()
    if (width === 0 || key === drawn) return
    drawn = key
    svg.setAttribute('width', width)
    const found = series.flatMap(({ value }) => points.map(value)).filter(Number.isFinite)
    const highest = Math.min(
      most,
      Math.max(
        least,
        found.reduce((a, b) => Math.max(a, b), 0),
      ),
    )
    const step = roundStep(highest, 3)
    const top = Math.min(most, Math.ceil(highest / step - 0.001) * step)
    const [bottom, depth] = [plot.height - plot.bottom, plot.height - plot.bottom - plot.top]
    const y = (value) => bottom - (Math.min(value, top) / top) * depth
    grid.replaceChildren()
    for (let value = 0; value <= top * 1.001; value += step) {
      grid.append(createSvg('line', { x1: plot.left, x2: width - plot.right, y1: y(value), y2: y(value) }))
      const label = createSvg('text', { x: plot.left - 6, y: y(value) + 4, 'text-anchor': 'end' })
      label.textContent = write(value)
      grid.append(label)
    }
    for (const at of timeTicks(from, to, Math.max(2, Math.floor((width - plot.left) / 90)))) {
      const label = createSvg('text', {
        x: x(at),
        y: plot.height - 5,
        'text-anchor': x(at) > width - 24 ? 'end' : 'middle',
      })
      label.textContent = format.minute(at)
      grid.append(createSvg('line', { class: 'tick', x1: x(at), x2: x(at), y1: bottom, y2: bottom + 4 }), label)
    }
    const inside = events.filter(({ at }) => at >= from && at <= to)
    marks.replaceChildren(
      ...inside.map(({ at, tone }) =>
        createSvg('path', { class: 'mark', 'data-tone': tone, d: `M${x(at).toFixed(1)} ${plot.top}V${bottom}` }),
      ),
    )
    lines.replaceChildren()
    for (const [i, { value }] of series.entries()) {
      const all = stretches(points, value, x, y, stepMs)
      if (series.length === 1)
        lines.append(createSvg('path', { class: `area ${classes[i]}`, d: areaPath(all, bottom) }))
      lines.append(createSvg('path', { class: `line ${classes[i]}`, d: linePath(all) }))
    }
    empty.hidden = found.length > 0
  }

  /** Index of the point that is read out. */
  const index = () => {
    const { points } = data
    if (cursor === undefined) return points.length - 1
    return points.reduce(
      (best, { at }, i) => (Math.abs(at - cursor) < Math.abs(points[best].at - cursor) ? i : best),
      0,
    )
  }

  function read() {
    const { points, events, stepMs } = data
    const i = index()
    const point = points[i]
    const far = cursor !== undefined && point && Math.abs(point.at - cursor) > stepMs * 1.5
    const texts = series.map(({ value }) => (point && !far ? write(value(point)) : '–'))
    for (const [at, text] of texts.entries()) setText(values[at], text)
    const shown = cursor === undefined ? undefined : far ? cursor : point?.at
    const near = events
      .filter(({ at }) => shown !== undefined && Math.abs(at - shown) <= stepMs)
      .map(({ text }) => text)
    const time = shown === undefined ? '' : format.time(shown)
    setText(when, [time, far ? 'no data' : '', ...near].filter(Boolean).join(' · '))
    rule.classList.toggle('on', shown !== undefined)
    if (shown !== undefined) for (const side of ['x1', 'x2']) setAttribute(rule, side, x(shown).toFixed(1))
    setAttribute(slider, 'aria-valuemin', '0')
    setAttribute(slider, 'aria-valuemax', String(Math.max(0, points.length - 1)))
    setAttribute(slider, 'aria-valuenow', String(Math.max(0, i)))
    const words = series.map(({ name }, at) => `${name} ${texts[at]}`)
    setAttribute(slider, 'aria-valuetext', [point ? format.time(point.at) : 'no data', ...near, ...words].join(', '))
  }

  slider.addEventListener('pointermove', ({ clientX }) => {
    const share = (clientX - slider.getBoundingClientRect().left - plot.left) / (width - plot.left - plot.right)
    moveCursor(data.from + Math.min(1, Math.max(0, share)) * (data.to - data.from))
  })
  slider.addEventListener('pointerleave', () => moveCursor(undefined))
  slider.addEventListener('blur', () => moveCursor(undefined))
  slider.addEventListener('keydown', (event) => {
    const { points } = data
    const end = points.length - 1
    const steps = {
      ArrowLeft: -1,
      ArrowDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageDown: -10,
      PageUp: 10,
      Home: -end,
      End: end,
    }
    if (event.key === 'Escape') moveCursor(undefined)
    else if (event.key in steps && end >= 0)
      moveCursor(points[Math.min(end, Math.max(0, index() + steps[event.key]))].at)
    else return
    event.preventDefault()
  })
  new ResizeObserver(([{ contentRect }]) => {
    width = Math.floor(contentRect.width)
    draw()
    read()
  }).observe(slider)

  const chart = {
    element,
    read,
    update(next) {
      data = next
      draw()
      read()
    },
  }
  charts.push(chart)
  return chart
}

function moveCursor(at) {
  cursor = at
  for (const chart of charts) chart.read()
}
