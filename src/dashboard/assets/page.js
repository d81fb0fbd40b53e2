// Polls the state of the fleet. Only changed text is written, so focus, selection and the position of a screen reader stay.

const { root, refresh } = document.documentElement.dataset
// A one-time link was opened in a browser that is signed in already.
if (location.hash.startsWith('#code=')) history.replaceState(null, '', location.pathname + location.search)
const $ = (selector, within = document) => within.querySelector(selector)
const list = $('#instances')
const cards = new Map()
const fleetHistory = []
const historyLength = 60

const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 })
const clock = new Intl.DateTimeFormat('en', { timeStyle: 'medium', hourCycle: 'h23' })
const format = {
  ms: (ms) => `${number.format(ms)} ms`,
  percent: (share) => `${Math.round(share * 100)} %`,
  bytes: (bytes) => (bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${number.format(bytes / 1e9)} GB`),
  duration(ms) {
    const seconds = Math.max(0, Math.floor(ms / 1000))
    for (const [unit, size] of [
      ['day', 86400],
      ['hour', 3600],
      ['minute', 60],
    ]) {
      const count = Math.floor(seconds / size)
      if (count > 0) return `${count} ${unit}${count > 1 ? 's' : ''}`
    }
    return `${seconds} s`
  },
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text
}

let newsTimer
function announce(text) {
  setText($('#news'), text)
  clearTimeout(newsTimer)
  newsTimer = setTimeout(() => setText($('#news'), ''), 6000)
}

/** The newest value is at the right edge; the scale starts at zero. */
function draw(svg, values) {
  const top = Math.max(...values, 1) * 1.15
  const points = values.map((value, i) => {
    const x = 100 - ((values.length - 1 - i) / (historyLength - 1)) * 100
    return `${x.toFixed(2)} ${(24 - (value / top) * 24).toFixed(2)}`
  })
  const start = points[0].split(' ')[0]
  $('.line', svg).setAttribute('d', `M${points.join('L')}`)
  $('.area', svg).setAttribute('d', `M${start} 24L${points.join('L')}L100 24Z`)
}

function remember(history, value) {
  history.push(value)
  if (history.length > historyLength) history.shift()
}

function createCard(peer) {
  const item = $('#card').content.firstElementChild.cloneNode(true)
  const fields = Object.fromEntries([...item.querySelectorAll('[data-field]')].map((e) => [e.dataset.field, e]))
  const card = { item, fields, svg: $('.spark', item), article: $('article', item), history: [], state: peer.state }
  fields.id.id = `instance-${peer.id}`
  card.article.setAttribute('aria-labelledby', fields.id.id)
  fields.switch.addEventListener('click', () => toggle(peer.id))
  cards.set(peer.id, card)
  const after = [...cards.keys()].sort(byName).find((id) => byName(id, peer.id) > 0 && cards.get(id).item.isConnected)
  list.insertBefore(item, after === undefined ? null : cards.get(after).item)
  return card
}

const byName = new Intl.Collator('en', { numeric: true }).compare

/** @param now the newest `lastSeen` of all peers, because the clock of this machine may differ */
function show(peer, now) {
  const isNew = !cards.has(peer.id)
  const card = cards.get(peer.id) ?? createCard(peer)
  const { fields } = card
  if (!isNew && card.state !== peer.state) announce(`${peer.id} is ${peer.state}`)
  card.state = peer.state
  card.article.dataset.state = peer.state
  const place = [peer.host + (peer.port ? `:${peer.port}` : ''), `pid ${peer.pid}`, `v${peer.version}`]
  if (peer.color !== 'none') place.push(peer.color)
  if (peer.pool !== 'default') place.push(`pool ${peer.pool}`)
  place.push(...[peer.region, peer.zone].filter(Boolean))
  if (peer.weight !== 100) place.push(`weight ${peer.weight}`)
  setText(fields.id, peer.id)
  setText(fields.state, peer.state)
  setText(fields.place, place.join(' · '))
  fields.failing.hidden = peer.failing.length === 0
  setText(fields.failing, `failing: ${peer.failing.join(', ')}`)
  setText(fields.rps, number.format(peer.rps))
  setText(fields.p95, format.ms(peer.p95))
  setText(fields.loop, format.percent(peer.eventLoopUtilization))
  fields.meter.style.transform = `scaleX(${Math.min(1, peer.eventLoopUtilization)})`
  fields.meter.classList.toggle('busy', peer.eventLoopUtilization > 0.85)
  setText(fields.memory, format.bytes(peer.memory))
  const silence = now - Date.parse(peer.lastSeen)
  const silent = silence > 5000 ? ` · silent for ${format.duration(silence)}` : ''
  setText(fields.up, `up ${format.duration(now - Date.parse(peer.startedAt))}${silent}`)
  const drained = peer.state === 'draining'
  setText(fields.switch, drained ? 'Undrain' : 'Drain')
  fields.switch.setAttribute('aria-label', (drained ? 'Undrain ' : 'Drain ') + peer.id)
  remember(card.history, peer.rps)
  draw(card.svg, card.history)
}

function showTotals(peers) {
  const sum = (key) => peers.reduce((total, peer) => total + peer[key], 0)
  const max = (key) => Math.max(0, ...peers.map((peer) => peer[key]))
  const totals = {
    serving: `${peers.filter((peer) => peer.state === 'serving').length} of ${peers.length}`,
    rps: number.format(sum('rps')),
    p95: format.ms(max('p95')),
    loop: format.percent(max('eventLoopUtilization')),
    memory: format.bytes(sum('memory')),
  }
  for (const key of Object.keys(totals)) setText($(`[data-total=${key}]`), totals[key])
  remember(fleetHistory, sum('rps'))
  draw($('#fleet-spark'), fleetHistory)
}

function removeMissing(peers) {
  const present = new Set(peers.map((peer) => peer.id))
  for (const [id, card] of cards) {
    if (present.has(id)) continue
    if (card.item.contains(document.activeElement)) $('h1').focus()
    card.item.remove()
    cards.delete(id)
    announce(`${id} has left the fleet`)
  }
}

let lastSeen
async function ask(path, init) {
  const response = await fetch(`${root}/${path}`, { cache: 'no-store', signal: AbortSignal.timeout(5000), ...init })
  // The sign-in has expired.
  if (response.status === 404 && path === 'state' && lastSeen && !$('#sign-out').hidden) location.reload()
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).message ?? `status ${response.status}`)
  return response
}

async function refreshAll() {
  try {
    const { answeredBy, instances } = await (await ask('state')).json()
    const known = cards.size
    const now = Math.max(...instances.map((peer) => Date.parse(peer.lastSeen)))
    for (const peer of [...instances].sort((a, b) => byName(a.id, b.id))) {
      if (known > 0 && !cards.has(peer.id)) announce(`${peer.id} has joined the fleet`)
      show(peer, now)
    }
    removeMissing(instances)
    showTotals(instances)
    lastSeen = new Date()
    document.body.classList.remove('stale')
    setText($('#freshness'), `as seen by ${answeredBy} at ${clock.format(lastSeen)}`)
  } catch {
    const since = lastSeen ? `no response since ${clock.format(lastSeen)}` : 'no response yet'
    if (!document.body.classList.contains('stale')) announce('The fleet does not respond')
    document.body.classList.add('stale')
    setText($('#freshness'), `${since}; trying again`)
  }
}

/** A disabled button would lose the focus, so it is only marked as disabled while the command runs. */
async function toggle(id) {
  const card = cards.get(id)
  const button = card.fields.switch
  if (button.getAttribute('aria-disabled') === 'true') return
  const command = card.state === 'draining' ? 'undrain' : 'drain'
  const serving = [...cards.values()].filter(({ state }) => state === 'serving').length
  if (command === 'drain' && serving === 1 && !confirm(`${id} is the last serving instance. Drain it anyway?`)) return
  button.setAttribute('aria-disabled', 'true')
  try {
    const body = JSON.stringify({ instance: id })
    await ask(command, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    await refreshAll()
  } catch (error) {
    announce(`Could not ${command} ${id}: ${error.message}`)
  } finally {
    button.removeAttribute('aria-disabled')
  }
}

let paused = false
$('#pause').addEventListener('click', ({ currentTarget }) => {
  paused = !paused
  currentTarget.setAttribute('aria-pressed', String(paused))
})

$('#sign-out').addEventListener('click', async () => {
  try {
    await ask('session', { method: 'DELETE' })
    location.reload()
  } catch (error) {
    announce(`Could not sign out: ${error.message}`)
  }
})

async function run() {
  for (;;) {
    if (!paused && !document.hidden) await refreshAll()
    await new Promise((resolve) => setTimeout(resolve, Number(refresh)))
  }
}
run()
