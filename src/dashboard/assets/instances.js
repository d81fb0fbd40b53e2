// The instances as a table that sorts and filters, with the departed ones and their last words; drain and undrain.

const filters = $('#filters')
const layoutChoice = $('#layout')

/** Of an instance, or how a departed one ended. */
const stateOf = ({ reason, state }) => reason ?? state
const rowTone = (row) => {
  const tone = toneOf(stateOf(row))
  return tone === 'good' && (row.failing.length > 0 || silence(row)) ? 'warn' : tone
}

function fillState(cell, row) {
  cell.classList.add('state')
  setText(cell, stateOf(row))
}

const failingText = ({ failing = [] }) => failing.join(', ')

/** For a departed instance: why it ended, if known, and when. */
function lastWords({ reason, detail, state, at }) {
  if (!reason) return undefined
  const ago = `${format.duration(fleetNow() - at)} ago (${format.time(at)})`
  return [ago, detail, state ? `was ${state}` : ''].filter(Boolean).join(' · ')
}

const figure = (key, title, width, write) => ({
  key,
  title,
  width,
  numeric: true,
  merge: true,
  value: (row) => row[key],
  text: (row) => write(row[key]),
})
const words = (key, title, width, text = (row) => row[key] ?? '') => ({ key, title, width, value: text, text })

const instanceColumns = [
  words('id', 'Instance', 7),
  { ...words('state', 'State', 6, stateOf), fill: fillState },
  words('failing', 'Failing', 4.5, failingText),
  words('pool', 'Pool', 4),
  words('version', 'Version', 4.5, versionOf),
  words('zone', 'Zone', 3.5),
  words('address', 'Address', 8.5, addressOf),
  figure('rps', 'Requests/s', 6, format.rate),
  figure('errorRate', '5xx', 4.25, format.percent),
  figure('p95', 'p95', 4.75, format.ms),
  figure('loop', 'Loop', 4, format.percent),
  figure('memory', 'Memory', 4.75, format.bytes),
  { ...figure('startedAt', 'Up', 6, (at) => format.duration(fleetNow() - at)), value: (row) => -row.startedAt },
  { key: 'command', title: 'Command', width: 6, className: 'command', merge: true, fill: fillCommand },
]

const instanceTable = createTable({
  label: 'Instances',
  columns: instanceColumns,
  keyOf: ({ id, reason, at }) => (reason ? `${id} ${at}` : id),
  toneOf: rowTone,
  isLast: ({ reason }) => reason !== undefined,
  mergeOf: lastWords,
  order: { key: 'id', descending: false },
  whenEmpty: 'No instance matches',
})
instanceTable.element.classList.add('tall')
$('#instance-table').append(instanceTable.element)

/** Pool, zone and failing checks have a column only where they differ. */
function columnsFor(rows) {
  const optional = instanceColumns.filter(({ key }) => ['pool', 'zone', 'failing'].includes(key))
  const same = optional.filter(({ text }) => rows.every((row) => text(row) === text(rows[0])))
  return instanceColumns.filter((column) => !same.includes(column))
}

function fillCommand(cell, { id, state }) {
  let button = cell.firstChild
  if (!button) {
    button = create('button', { type: 'button' })
    button.addEventListener('click', () => switchDrain(id, button))
    cell.append(button)
  }
  showCommand(button, id, state)
}

function showCommand(button, id, state) {
  const command = state === 'draining' ? 'Undrain' : 'Drain'
  setText(button, command)
  setAttribute(button, 'aria-label', `${command} ${id}`)
}

/** A disabled button would lose the focus, so it is only marked as disabled while the command runs. */
async function switchDrain(id, button) {
  const instance = fleet.instances.find((one) => one.id === id)
  if (!instance || button.getAttribute('aria-disabled') === 'true') return
  const command = instance.state === 'draining' ? 'undrain' : 'drain'
  const reason = command === 'drain' ? whyKeep(instance) : undefined
  if (reason && !(await confirmed(`${reason} Drain it anyway?`))) return
  button.setAttribute('aria-disabled', 'true')
  try {
    await send(command, { instance: id })
    await refreshNow()
  } catch (error) {
    announce(`Could not ${command} ${id}: ${error.message}`)
  } finally {
    button.removeAttribute('aria-disabled')
  }
}

function confirmed(question) {
  const dialog = $('#guard')
  setText($('#guard-question'), question)
  dialog.returnValue = 'cancel'
  dialog.showModal()
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true })
  })
}

/** Keeps the choice, even if no instance has the value at the moment. */
function showOptions(select, values) {
  const known = [...new Set([...values, select.value])].filter(Boolean).sort(byName)
  if (
    [...select.options].slice(1).every(({ value }, i) => value === known[i]) &&
    select.options.length === known.length + 1
  )
    return
  const { value } = select
  select.replaceChildren(select.options[0], ...known.map((text) => create('option', { text, value: text })))
  select.value = value
  select.parentElement.hidden = known.length < 2 && value === ''
}

const isDeparted = 'departed'
function matchingRows({ instances, departed }) {
  const { text, state, pool, version, zone } = Object.fromEntries(new FormData(filters))
  const words = text.toLowerCase().split(/\s+/).filter(Boolean)
  const matches = (row) => {
    if (pool && row.pool !== pool) return false
    if (version && row.version !== version) return false
    if (zone && row.zone !== zone) return false
    if (state && state !== (row.reason ? isDeparted : row.state) && state !== row.reason) return false
    if (words.length === 0) return true
    const all = [
      row.id,
      row.host,
      row.port,
      row.version,
      row.color,
      row.pool,
      row.zone,
      row.detail,
      ...(row.failing ?? []),
    ]
    const searched = all.join(' ').toLowerCase()
    return words.every((word) => searched.includes(word))
  }
  return [instances.filter(matches), departed.filter(matches)]
}

/** `#instances?state=draining&version=2.0.0`: a filtered list has an address. */
function writeFilters() {
  const given = [...new FormData(filters)].filter(([name, value]) => value !== '' && name !== 'layout')
  const query = new URLSearchParams(given).toString()
  history.replaceState(null, '', query ? `#instances?${query}` : '#instances')
}

views.instances = {
  open(query) {
    const values = new URLSearchParams(query)
    for (const name of ['text', 'state', 'pool', 'version', 'zone']) {
      const control = filters.elements[name]
      const value = values.get(name) ?? ''
      if (control.tagName === 'SELECT' && value && ![...control.options].some((option) => option.value === value))
        control.append(create('option', { text: value, value }))
      control.value = value
    }
  },
  render() {
    const { instances, departed } = fleet
    const all = [...instances, ...departed]
    const states = instances.map(({ state }) => state)
    showOptions(
      filters.elements.state,
      departed.length > 0 ? [...states, isDeparted, ...departed.map(({ reason }) => reason)] : states,
    )
    for (const name of ['pool', 'version', 'zone'])
      showOptions(
        filters.elements[name],
        all.map((row) => row[name]),
      )
    const [present, gone] = matchingRows(fleet)
    const matched = `${format.count(present.length)} of ${format.plural(instances.length, 'instance')}`
    setText($('#matches'), departed.length > 0 ? `${matched}, ${format.count(gone.length)} departed` : matched)
    const asCards = $('input:checked', layoutChoice).value === 'cards'
    $('#cards').hidden = !asCards
    $('#instance-table').hidden = asCards
    if (asCards) renderCards(present, gone)
    else instanceTable.update([...present, ...gone], columnsFor(all))
  },
}

filters.addEventListener('submit', (event) => event.preventDefault())
filters.addEventListener('input', ({ target }) => {
  if (target.name !== 'layout') writeFilters()
  if (fleet) views.instances.render()
})
// On a narrow screen most columns would be out of sight.
if (matchMedia('(max-width: 40rem)').matches) $('[value=cards]', layoutChoice).checked = true
