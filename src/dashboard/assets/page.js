// The header, the view that the address names, and the loop that keeps both up to date.

/** A tab in the background only keeps its title up to date. */
const backgroundFactor = 5
const fleetName = $('h1').textContent
let shown = 'overview'
let stale = false
let tone

/** Reads `#view?query`. */
function route() {
  const [name, query] = location.hash.slice(1).split('?')
  shown = Object.hasOwn(views, name) ? name : 'overview'
  for (const section of $all('main > div')) section.hidden = section.id !== `view-${shown}`
  for (const link of $all('nav a')) {
    if (link.hash === `#${shown}`) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  views[shown].open?.(query)
  if (!fleet) return
  views[shown].render(fleet)
  void refreshView()
}

async function refreshView() {
  const view = shown
  await views[view].refresh?.()
  if (view === shown) views[view].render(fleet)
}

/** Announces changes of single instances, or their number if there are many. */
function announceChanges(before, after) {
  const old = new Map(before.instances.map((instance) => [instance.id, instance]))
  const news = []
  for (const { id, state } of after.instances) {
    const known = old.get(id)
    if (!known) news.push(`${id} has joined the fleet`)
    else if (known.state !== state) news.push(`${id} is ${state}`)
    old.delete(id)
  }
  const ended = new Map(after.departed.map(({ id, reason }) => [id, reason]))
  const unexplained = before.departed.filter(({ id, reason }) => reason === 'gone' && ended.has(id))
  for (const id of [...old.keys(), ...unexplained.map(({ id }) => id)]) {
    const reason = ended.get(id)
    if (reason === 'stopped') news.push(`${id} has left the fleet`)
    else if (reason !== 'gone') news.push(`${id} was ${reason}`)
    else if (old.has(id)) news.push(`${id} is gone`)
  }
  if (before.redis.state !== after.redis.state) news.push(`Redis is ${after.redis.state}`)
  if (news.length > 3) announce(`${format.count(news.length)} changes; ${summarise(after).text}`)
  else if (news.length > 0) announce(news.join('; '))
}

const icons = { good: '#2f9e5f', warn: '#d98e04', bad: '#d13438' }
function showTone(next) {
  if (next === tone) return
  tone = next
  setAttribute($('#sentence'), 'data-tone', next)
  const link = $('link[rel=icon]')
  const color = icons[next]
  if (color)
    link.href = decodeURIComponent(link.href)
      .replace(/fill="#\w+"/, `fill="${color}"`)
      .replaceAll('#', '%23')
}

function showHeader() {
  const { text, short, tone } = summarise(fleet)
  setText($('#sentence'), text)
  setText($('#freshness'), `as seen by ${fleet.servedBy} at ${format.time(Date.now())}`)
  setText($('#instance-count'), format.count(fleet.instances.length))
  document.title = `${short} serving · ${fleetName}`
  showTone(tone)
}

let lastSeen
async function refreshAll() {
  try {
    const before = fleet
    const next = await loadState()
    fleet = before ? withVanished(next, before) : next
    lastSeen = Date.now()
    if (stale) announce('The fleet responds again')
    stale = false
    document.body.classList.remove('stale')
    if (before) announceChanges(before, fleet)
  } catch {
    if (!stale) announce('The fleet does not respond')
    stale = true
    document.body.classList.add('stale')
    const since = lastSeen ? `No response since ${format.time(lastSeen)}` : 'No response yet'
    setText($('#sentence'), `${since}; trying again`)
    document.title = `no response · ${fleetName}`
    showTone('bad')
    return
  }
  rememberLoad(fleet)
  showHeader()
  if (document.hidden) return
  views[shown].render(fleet)
  await refreshView()
}

let running
/** One refresh at a time; a command is followed by one that started after it. */
async function refreshNow() {
  await running
  running = refreshAll().finally(() => {
    running = undefined
  })
  await running
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
  for (let turn = 0; ; turn++) {
    if (!paused && (!document.hidden || turn % backgroundFactor === 0)) await refreshNow()
    await new Promise((resolve) => setTimeout(resolve, Number(refresh)))
  }
}

// A one-time link was opened in a browser that is signed in already.
if (location.hash.startsWith('#code=')) history.replaceState(null, '', location.pathname + location.search)
addEventListener('hashchange', route)
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && !paused && fleet) void refreshNow()
})
route()
run()
