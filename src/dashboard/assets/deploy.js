// The versions that run, each with its share and its figures beside the others, and the progress of the last deploy.

const versionTable = createTable({
  label: 'Versions, their share and figures',
  keyOf: ({ name }) => name,
  toneOf: ({ serving, count }) => (serving === 0 ? 'bad' : serving < count ? 'warn' : 'good'),
  order: { key: '', descending: false },
  whenEmpty: 'No instance',
  columns: [
    { key: 'name', title: 'Version', width: 9, fill: fillVersion },
    { key: 'serving', title: 'Serving', width: 7, text: ({ serving, count }) => `${serving} of ${count}` },
    { key: 'share', title: 'Requests', width: 6, numeric: true, text: ({ share }) => format.percent(share) },
    { key: 'rps', title: 'Requests/s', width: 6.5, numeric: true, text: ({ rps }) => format.rate(rps) },
    { key: 'errorRate', title: '5xx', width: 4.5, numeric: true, text: ({ errorRate }) => format.percent(errorRate) },
    { key: 'p95', title: 'Slowest p95', width: 7, numeric: true, text: ({ p95 }) => format.ms(p95) },
    { key: 'loop', title: 'Busiest loop', width: 7, numeric: true, text: ({ loop }) => format.percent(loop) },
    {
      key: 'since',
      title: 'First started',
      width: 9,
      text: ({ since }) => `${format.duration(fleetNow() - since)} ago`,
    },
  ],
})
$('#version-table').append(versionTable.element)

function fillVersion(cell, { name, version }) {
  let link = cell.firstChild
  if (!link) {
    link = create('a')
    cell.append(link)
  }
  setText(link, name)
  setAttribute(link, 'href', `#instances?${new URLSearchParams({ version })}`)
}

/** Newest first: beside a canary the stable version is the one below. */
function versionsOf({ instances }) {
  const rps = sumOf(instances, 'rps')
  return [...Map.groupBy(instances, versionOf)]
    .map(([name, all]) => ({
      name: name || 'unknown',
      version: all[0].version ?? '',
      count: all.length,
      since: Math.min(...all.map(({ startedAt }) => startedAt)),
      ...totalsOf(all),
      share: rps > 0 ? sumOf(all, 'rps') / rps : undefined,
    }))
    .sort((a, b) => b.since - a.since)
}

/** One bar for the instances and one for the requests, each divided among the versions. */
function showShares(versions, total) {
  const bars = {
    Instances: ({ count }) => (total > 0 ? count / total : 0),
    Requests: ({ share }) => share ?? 0,
  }
  const lines = reconcile($('#shares'), Object.keys(bars), (name) =>
    create('div', { class: 'bar' }, create('span', { text: name }), create('span', { class: 'parts' })),
  )
  for (const [name, line] of lines) {
    const parts = reconcile(
      $('.parts', line),
      versions.map((version) => version.name),
      () => create('span'),
    )
    for (const [i, version] of versions.entries()) {
      const part = parts.get(version.name)
      const share = bars[name](version)
      part.className = `series-${(i % 6) + 1}`
      part.style.flexGrow = share
      part.hidden = share === 0
      setText(part, share > 0.12 ? `${version.name} ${format.percent(share)}` : '')
      setAttribute(part, 'title', `${version.name} ${format.percent(share)}`)
    }
  }
  $('#shares').hidden = versions.length < 2
}

const ends = { 'deploy-finished': 'finished', 'deploy-failed': 'failed', 'rolled-back': 'rolled back' }

/** The events of the newest deploy, oldest first. */
function lastDeploy(events) {
  const start = events.findIndex(({ kind }) => kind === 'deploy-started')
  const ofDeploys = events.slice(0, start < 0 ? undefined : start + 1)
  return ofDeploys.filter(({ kind }) => eventGroup(kind) === 'Deploys').reverse()
}

/** The number of the last step and of all, from "3 of 9: …", the text of a step of `fleet deploy`. */
function stepOf(events) {
  const text = events.findLast(({ kind }) => kind === 'deploy-step')?.text ?? ''
  const [, step, total] = /^(\d+) of (\d+): /.exec(text) ?? []
  return total === undefined ? undefined : { step: Number(step), total: Number(total) }
}

function showDeploy(events) {
  const [first] = events
  $('#deploy-steps').hidden = !first
  $('#deploy-progress').hidden = !first
  if (!first) {
    const text = 'None in the events that the fleet keeps. The command “fleet deploy” reports its steps here.'
    setText($('#deploy-summary'), text)
    return
  }
  const end = events.findLast(({ kind }) => kind in ends)
  const steps = stepOf(events)
  const version = events.find((event) => event.version)?.version
  const duration = format.duration((end?.at ?? fleetNow()) - first.at)
  const state = end ? `${ends[end.kind]} after ${duration}` : `running for ${duration}`
  const at = steps ? `, step ${steps.step} of ${steps.total}` : ''
  setText($('#deploy-summary'), `${version ? `Version ${version}` : 'Deploy'}: ${state}${at}`)
  setAttribute($('#deploy-summary'), 'data-tone', end ? eventTone(end.kind) : 'warn')
  $('#deploy-progress').hidden = !steps || end !== undefined
  if (steps) {
    // The last step has begun, but may not be over.
    setAttribute($('#deploy-progress'), 'max', String(steps.total))
    setAttribute($('#deploy-progress'), 'value', String(steps.step - 0.5))
  }
  renderEvents($('#deploy-steps'), events)
}

views.deploy = {
  refresh: loadEvents,
  render() {
    const versions = versionsOf(fleet)
    versionTable.update(versions)
    showShares(versions, fleet.instances.length)
    showDeploy(lastDeploy(timeline.events))
  },
}
