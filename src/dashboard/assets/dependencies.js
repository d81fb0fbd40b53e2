// Redis and the database as the responding instance sees them, and the checks of all instances.

let dependencies

const dependencyTones = { ok: 'good', up: 'good', degraded: 'warn', lagging: 'warn', down: 'bad', open: 'bad' }
const dependencyTone = (state) => dependencyTones[state] ?? 'none'

/** A panel with a state and figures; its children are made once. */
function createDependency(title) {
  const id = `dependency-${title.toLowerCase()}`
  const state = create('span', { class: 'state' })
  const heading = create('h3', { id, text: `${title} ` })
  heading.append(state)
  return create(
    'section',
    { class: 'panel', 'aria-labelledby': id },
    heading,
    create('dl', { class: 'facts' }),
    create('div'),
  )
}

const panels = Object.fromEntries(['Redis', 'Database', 'Checks'].map((name) => [name, createDependency(name)]))
$('#dependencies').append(...Object.values(panels))

function showPanel(panel, state, facts) {
  panel.dataset.tone = dependencyTone(state)
  setText($('.state', panel), state)
  const known = new Map(facts.filter(([, text]) => text !== undefined))
  const made = reconcile($('dl', panel), [...known.keys()], (name) =>
    create('div', {}, create('dt', { text: name }), create('dd')),
  )
  for (const [name, element] of made) setText($('dd', element), known.get(name))
}

const written = (value, write) => (value === undefined || value === null ? undefined : write(value))

function showRedis(redis) {
  if (!redis) {
    showPanel(panels.Redis, 'none', [['State', 'not used: each instance keeps its state in its memory']])
    return
  }
  const { usedMemory, maxMemory, evictedKeys } = redis
  const limit =
    maxMemory > 0 ? ` of ${format.bytes(maxMemory)} (${format.percent(usedMemory / maxMemory)})` : ', no limit'
  showPanel(panels.Redis, redis.state, [
    ['Role', redis.role ?? undefined],
    ['Version', redis.version ?? undefined],
    ['Latency', written(redis.latencyMs, format.ms)],
    ['Memory', written(usedMemory, (bytes) => format.bytes(bytes) + limit)],
    ['When full', redis.policy ?? undefined],
    ['Evicted keys', written(evictedKeys, format.count)],
    ['Clients', written(redis.clients, format.count)],
    ['Hit rate', written(redis.hitRate, format.percent)],
  ])
}

const poolText = (pool) =>
  pool ? `${pool.used} of ${pool.max} used${pool.waiting > 0 ? `, ${pool.waiting} waiting` : ''}` : '–'

const replicaTable = createTable({
  label: 'Database servers',
  keyOf: ({ name }) => name,
  toneOf: ({ state }) => dependencyTone(state),
  order: { key: '', descending: false },
  whenEmpty: '',
  columns: [
    { key: 'name', title: 'Server', width: 8, text: ({ name }) => name },
    { key: 'state', title: 'State', width: 6, fill: fillDependencyState },
    { key: 'lagMs', title: 'Lag', width: 6, numeric: true, text: ({ lagMs }) => format.ms(lagMs) },
    { key: 'share', title: 'Share of reads', width: 8, numeric: true, text: ({ share }) => format.percent(share) },
    { key: 'pool', title: 'Connections', width: 12, text: ({ pool }) => poolText(pool) },
  ],
})
$('div:last-child', panels.Database).append(replicaTable.element)

function fillDependencyState(cell, { state }) {
  cell.classList.add('state')
  setText(cell, state)
}

function showDatabase(database) {
  panels.Database.hidden = !database
  if (!database) return
  const servers = [database.primary, ...database.replicas]
  const bad = servers.find(({ state }) => dependencyTone(state) !== 'good')
  showPanel(
    panels.Database,
    bad === undefined ? database.primary.state : bad === database.primary ? bad.state : 'degraded',
    [],
  )
  replicaTable.update([{ name: 'primary', ...database.primary }, ...database.replicas])
}

const checkTable = createTable({
  label: 'Health checks',
  keyOf: ({ name }) => name,
  toneOf: ({ failing, critical }) => (failing.length === 0 ? 'good' : critical ? 'bad' : 'warn'),
  order: { key: '', descending: false },
  whenEmpty: 'No checks',
  columns: [
    { key: 'name', title: 'Check', width: 8, text: ({ name }) => name },
    {
      key: 'critical',
      title: 'If it fails',
      width: 9,
      text: ({ critical }) => (critical ? 'not ready' : 'degraded only'),
    },
    { key: 'state', title: 'State', width: 15, fill: fillCheck },
  ],
})
$('div:last-child', panels.Checks).append(checkTable.element)

function fillCheck(cell, { failing, instances }) {
  cell.classList.add('state')
  const names = failing.slice(0, 5).join(', ') + (failing.length > 5 ? ` and ${failing.length - 5} more` : '')
  const text = failing.length === 0 ? `ok on ${format.plural(instances, 'instance')}` : `fails on ${names}`
  setText(cell, text)
  setAttribute(cell, 'title', failing.join(', '))
}

views.dependencies = {
  async refresh() {
    dependencies = (await load('dependencies', 'dependencies')) ?? dependencies
  },
  render() {
    $('#dependencies').hidden = !dependencies
    if (!dependencies) return
    const { checks } = dependencies
    showRedis(dependencies.redis)
    showDatabase(dependencies.database)
    const failing = checks.filter((check) => check.failing.length > 0)
    showPanel(
      panels.Checks,
      failing.length === 0 ? 'ok' : failing.some(({ critical }) => critical) ? 'down' : 'degraded',
      [],
    )
    checkTable.update([...failing, ...checks.filter((check) => check.failing.length === 0)])
  },
}
