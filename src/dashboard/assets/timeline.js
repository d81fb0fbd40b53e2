// The events of the fleet: by day, by kind, older ones on request. Other views show parts of them.

const pageSize = 100
const maxEvents = 2000
/** Newest first. `complete`: the oldest one that the fleet keeps is here. */
const timeline = { events: [], complete: false }

/** Label, tone and group of each kind. Kinds of later versions are shown by their name. */
const kinds = {
  started: ['started', 'none', 'Instances'],
  ready: ['ready', 'good', 'Instances'],
  draining: ['draining', 'warn', 'Instances'],
  undrained: ['undrained', 'good', 'Instances'],
  stopped: ['stopped', 'none', 'Instances'],
  killed: ['killed', 'bad', 'Instances'],
  lost: ['lost', 'bad', 'Instances'],
  'check-failed': ['check failed', 'bad', 'Checks'],
  'check-recovered': ['check recovered', 'good', 'Checks'],
  'leader-changed': ['leader changed', 'none', 'Fleet'],
  'limit-hit': ['limit hit', 'warn', 'Fleet'],
  'deploy-started': ['deploy started', 'none', 'Deploys'],
  'deploy-step': ['deploy step', 'none', 'Deploys'],
  'deploy-finished': ['deploy finished', 'good', 'Deploys'],
  'deploy-failed': ['deploy failed', 'bad', 'Deploys'],
  'rolled-back': ['rolled back', 'warn', 'Deploys'],
}
const eventLabel = (kind) => kinds[kind]?.[0] ?? kind.replaceAll('-', ' ')
const eventTone = (kind) => kinds[kind]?.[1] ?? 'none'
const eventGroup = (kind) => kinds[kind]?.[2] ?? 'Fleet'
const eventText = ({ kind, instance }) => (instance ? `${instance} ${eventLabel(kind)}` : eventLabel(kind))

let loadingEvents
/** Reads the newest events. At most once at a time, and with a whole page if too many are new. */
function loadEvents() {
  loadingEvents ??= (async () => {
    let page = await load('events', `events?limit=${timeline.events.length > 0 ? 20 : pageSize}`)
    // Older events may have been added meanwhile, so what is known is read after each response.
    const leavesGap = () => {
      const [newest] = timeline.events
      return newest && page.events.length > 0 && !page.events.some(({ id }) => id === newest.id)
    }
    if (page && leavesGap()) page = await load('events', `events?limit=${pageSize}`)
    if (!page) return
    if (timeline.events.length === 0 || leavesGap()) {
      timeline.events = page.events
      timeline.complete = page.events.length < pageSize
    } else timeline.events = merge(page.events, timeline.events)
  })().finally(() => {
    loadingEvents = undefined
  })
  return loadingEvents
}

function merge(newer, older) {
  const ids = new Set(newer.map(({ id }) => id))
  return [...newer, ...older.filter(({ id }) => !ids.has(id))].slice(0, maxEvents)
}

function createEvent({ kind, at, instance, version, pool, text }) {
  const item = create('li', { 'data-tone': eventTone(kind) })
  // The text of a start has the version already.
  const place = [
    version && !text?.includes(version) ? `v${version}` : '',
    pool && pool !== 'default' ? `pool ${pool}` : '',
  ]
    .filter(Boolean)
    .join(' · ')
  item.append(create('time', { datetime: new Date(at).toISOString(), text: format.time(at) }))
  item.append(create('span', { class: 'kind', text: eventLabel(kind) }))
  const body = create('span', { class: 'body' })
  // The text of many events starts with the instance.
  if (instance && !text?.startsWith(instance)) body.append(create('b', { text: instance }), ' ')
  body.append(text ?? '')
  if (place) body.append(' ', create('span', { class: 'place', text: place }))
  item.append(body)
  return item
}

/** @param list an `ol` */
function renderEvents(list, events) {
  const byId = new Map(events.map((event) => [event.id, event]))
  reconcile(list, [...byId.keys()], (id) => createEvent(byId.get(id)))
  list.classList.toggle('none', events.length === 0)
}

const eventFilters = $('#event-filters')
for (const group of ['Instances', 'Checks', 'Deploys', 'Fleet']) {
  const box = create('input', { type: 'checkbox', name: 'group', value: group, checked: '' })
  $('#groups').append(create('label', {}, box, ` ${group}`))
}

function matchingEvents() {
  const form = new FormData(eventFilters)
  const groups = new Set(form.getAll('group'))
  const words = form.get('text').toLowerCase().split(/\s+/).filter(Boolean)
  return timeline.events.filter((event) => {
    if (!groups.has(eventGroup(event.kind))) return false
    const all = [event.instance, event.text, event.version, event.pool, eventLabel(event.kind)].join(' ').toLowerCase()
    return words.every((word) => all.includes(word))
  })
}

function createDay(day) {
  const id = `day-${day.replace(/\W+/g, '-')}`
  const list = create('ol', { class: 'events' })
  return create('section', { class: 'panel', 'aria-labelledby': id }, create('h3', { id, text: day }), list)
}

views.timeline = {
  refresh: loadEvents,
  render() {
    const days = Map.groupBy(matchingEvents(), ({ at }) => format.day(at))
    const sections = reconcile($('#days'), [...days.keys()], createDay)
    for (const [day, section] of sections) renderEvents($('ol', section), days.get(day))
    $('#older').hidden = timeline.complete || timeline.events.length === 0 || timeline.events.length >= maxEvents
    $('#days').classList.toggle('none', days.size === 0)
  },
}

eventFilters.addEventListener('submit', (event) => event.preventDefault())
eventFilters.addEventListener('input', () => views.timeline.render())
$('#older').addEventListener('click', async () => {
  const { id } = timeline.events.at(-1)
  const page = await load('events', `events?limit=${pageSize}&before=${encodeURIComponent(id)}`)
  if (!page || timeline.events.at(-1).id !== id) return
  timeline.complete = page.events.length < pageSize
  timeline.events = merge(timeline.events, page.events)
  views.timeline.render()
  if (timeline.complete) $('h1').focus()
})
