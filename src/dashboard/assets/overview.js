// The overview: totals, charts over the history that the fleet keeps, the instances that need attention, the last events.

const ranges = { '15m': 15 * 60_000, '1h': 3_600_000, '24h': 86_400_000 }
const briefRows = 12
/** Points by range, so that a change of the range shows at once what is known. */
const histories = new Map()

const perSecond = (key) => (point) => (point[key] / stepMs()) * 1000
const share = (key) => (point) => (point.requests > 0 ? point[key] / point.requests : undefined)
const stepMs = () => histories.get(chosenRange())?.stepMs ?? 10_000
const chosenRange = () => $('input:checked', $('#range')).value

const chartOf = {
  rps: createChart({
    title: 'Requests per second',
    series: [{ name: 'requests', value: perSecond('requests') }],
    write: format.rate,
  }),
  errors: createChart({
    title: 'Failed, of all requests',
    series: [
      { name: '5xx', color: 5, value: share('serverErrors') },
      { name: '4xx', color: 2, value: share('clientErrors') },
      { name: 'shed', color: 3, value: share('shed') },
    ],
    write: format.percent,
    least: 0.01,
    most: 1,
  }),
  latency: createChart({
    title: 'Response time',
    series: ['p50', 'p95', 'p99'].map((name) => ({ name, value: (point) => point[name] ?? undefined })),
    write: format.ms,
    least: 5,
  }),
  loop: createChart({
    title: 'Event loop, mean of the instances',
    series: [{ name: 'busy', value: ({ loop }) => loop }],
    write: format.percent,
    least: 0.1,
    most: 1,
  }),
  memory: createChart({
    title: 'Memory, sum of the instances',
    series: [{ name: 'memory', value: ({ memory }) => memory }],
    write: format.bytes,
    least: 100e6,
  }),
  instances: createChart({
    title: 'Instances',
    series: [{ name: 'instances', color: 4, value: ({ instances }) => instances }],
    write: format.count,
    least: 3,
  }),
}
$('#charts').append(...Object.values(chartOf).map(({ element }) => element))

/** Wide enough for the checks that fail. */
const attention = {
  width: 9,
  fill(cell, row) {
    const failing = failingText(row)
    cell.classList.add('state')
    setText(cell, failing ? `${stateOf(row)}: ${failing} fails` : stateOf(row))
    setAttribute(cell, 'title', cell.textContent)
  },
}

/** Made with the first state, because it uses the cells of instances.js. */
let brief
function createBrief() {
  const chosen = ['id', 'state', 'rps', 'p95', 'loop'].map((name) => instanceColumns.find(({ key }) => key === name))
  const table = createTable({
    label: 'Instances that need attention first',
    keyOf: ({ id, reason, at }) => (reason ? `${id} ${at}` : id),
    toneOf: rowTone,
    mergeOf: lastWords,
    order: { key: '', descending: false },
    whenEmpty: 'No instance',
    columns: chosen.map((column) => ({ ...column, value: undefined, ...(column.key === 'state' && attention) })),
  })
  $('#brief').append(table.element)
  return table
}

/** How much an instance needs attention: state, failing checks, silence, failed requests. */
function urgency(instance) {
  const state = { closed: 4, draining: 2, starting: 2 }[instance.state] ?? 0
  return (
    state + (instance.failing.length > 0 ? 3 : 0) + (silence(instance) ? 3 : 0) + (instance.errorRate > 0.01 ? 1 : 0)
  )
}

function renderTotals({ instances, departed }) {
  const totals = totalsOf(instances)
  const missing = missingOf(fleet)
  const texts = {
    serving: `${format.count(totals.serving)} of ${format.count(instances.length + missing.length)}`,
    rps: format.rate(totals.rps),
    errors: format.percent(totals.errorRate),
    p95: format.ms(totals.p95),
    loop: format.percent(totals.loop),
    memory: format.bytes(totals.memory),
  }
  for (const key of Object.keys(texts)) setText($(`[data-total=${key}]`), texts[key])
  brief ??= createBrief()
  brief.update([...missing.toReversed(), ...instances.toSorted((a, b) => urgency(b) - urgency(a))].slice(0, briefRows))
  const gone = departed.length > 0 ? `, ${format.count(departed.length)} departed` : ''
  setText($('#all-instances'), `all ${format.count(instances.length)}${gone}`)
}

/** Adds the points since the last one. The last one is read again, because its step may not have been over. */
async function loadHistory() {
  const range = chosenRange()
  const known = histories.get(range)
  const now = fleetNow()
  if (known && now < known.nextAt) return
  const since = known?.points.at(-2)?.at
  const data = await load('history', `history?range=${range}${since === undefined ? '' : `&since=${since}`}`)
  if (!data) return
  const oldest = now - ranges[range] - data.stepMs
  const points = new Map((known?.points ?? []).filter(({ at }) => at > oldest).map((point) => [point.at, point]))
  for (const point of data.points) points.set(point.at, point)
  histories.set(range, {
    stepMs: data.stepMs,
    points: [...points.values()].sort((a, b) => a.at - b.at),
    nextAt: now + data.stepMs / 2,
  })
}

const marked = new Set([
  'killed',
  'lost',
  'limit-hit',
  'rolled-back',
  'deploy-started',
  'deploy-finished',
  'deploy-failed',
])

function renderCharts() {
  const range = chosenRange()
  const { points = [], stepMs = 10_000 } = histories.get(range) ?? {}
  const to = Math.floor(fleetNow() / stepMs) * stepMs
  const events = timeline.events
    .filter(({ kind }) => marked.has(kind))
    .map((event) => ({ at: event.at, tone: eventTone(event.kind), text: eventText(event) }))
  for (const chart of Object.values(chartOf)) chart.update({ points, events, from: to - ranges[range], to, stepMs })
}

views.overview = {
  async refresh() {
    await Promise.all([loadHistory(), loadEvents()])
  },
  render() {
    renderTotals(fleet)
    renderCharts()
    renderEvents($('#last-events'), timeline.events.slice(0, 12))
  },
}

$('#range').addEventListener('change', async () => {
  renderCharts()
  await loadHistory()
  renderCharts()
})
