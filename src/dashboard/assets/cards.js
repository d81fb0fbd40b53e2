// The instances as cards, with the requests per second since the page was opened.

const cardLimit = 60
const sparkLength = 60
const cards = new Map()
/** Requests per second of each instance, the newest last. */
const sparks = new Map()

function rememberLoad({ instances }) {
  const present = new Set(instances.map(({ id }) => id))
  for (const id of sparks.keys()) if (!present.has(id)) sparks.delete(id)
  for (const { id, rps } of instances) {
    const values = sparks.get(id) ?? []
    values.push(rps)
    if (values.length > sparkLength) values.shift()
    sparks.set(id, values)
  }
}

/** The newest value is at the right edge; the scale starts at zero. */
function drawSpark(svg, values) {
  const top = Math.max(...values, 1) * 1.15
  const points = values.map((value, i) => {
    const x = 100 - ((values.length - 1 - i) / (sparkLength - 1)) * 100
    return `${x.toFixed(2)} ${(24 - (value / top) * 24).toFixed(2)}`
  })
  const start = points[0].split(' ')[0]
  setAttribute($('.line', svg), 'd', `M${points.join('L')}`)
  setAttribute($('.area', svg), 'd', `M${start} 24L${points.join('L')}L100 24Z`)
}

const cardKey = (row) => (row.reason ? `${row.id} ${row.at}` : row.id)

function createCard(key) {
  const item = $('#card').content.firstElementChild.cloneNode(true)
  const fields = Object.fromEntries($all('[data-field]', item).map((element) => [element.dataset.field, element]))
  fields.id.id = `card ${key}`.replaceAll(' ', '-')
  const card = { item, fields, svg: $('.spark', item), article: $('article', item) }
  card.article.setAttribute('aria-labelledby', fields.id.id)
  fields.switch.addEventListener('click', () => switchDrain(fields.id.textContent, fields.switch))
  cards.set(item, card)
  return item
}

function showCard({ fields, article, svg }, row) {
  const { reason, failing = [], pool, region, zone, weight, pid } = row
  setAttribute(article, 'data-tone', rowTone(row))
  article.classList.toggle('departed', reason !== undefined)
  const place = [addressOf(row), pid ? `pid ${pid}` : '', row.version ? `v${versionOf(row)}` : '']
  if (pool && pool !== 'default') place.push(`pool ${pool}`)
  place.push(region, zone)
  if (weight !== undefined && weight !== 100) place.push(`weight ${weight}`)
  setText(fields.id, row.id)
  setText(fields.state, stateOf(row))
  setText(fields.place, place.filter(Boolean).join(' · '))
  fields.failing.hidden = failing.length === 0
  setText(fields.failing, `failing: ${failing.join(', ')}`)
  const silent = reason ? 0 : silence(row)
  const up = `up ${format.duration(fleet.at - row.startedAt)}${silent ? ` · silent for ${format.duration(silent)}` : ''}`
  setText(fields.up, lastWords(row) ?? up)
  fields.switch.hidden = reason !== undefined
  for (const part of [svg, $('dl', article)]) part.toggleAttribute('hidden', reason !== undefined)
  if (reason) return
  showCommand(fields.switch, row.id, row.state)
  setText(fields.rps, format.rate(row.rps))
  setText(fields.p95, format.ms(row.p95))
  setText(fields.loop, format.percent(row.loop))
  setText(fields.memory, format.bytes(row.memory))
  drawSpark(svg, sparks.get(row.id) ?? [row.rps])
}

/** The first of them: hundreds of cards are neither readable nor cheap. */
function renderCards(present, gone) {
  const shown = [...present, ...gone].slice(0, cardLimit)
  const rest = present.length + gone.length - shown.length
  if (rest > 0) setText($('#matches'), `${$('#matches').textContent}; the first ${cardLimit} as cards`)
  const hadFocus = $('#cards').contains(document.activeElement)
  const items = reconcile($('#cards'), shown.map(cardKey), createCard)
  for (const item of cards.keys()) if (!item.isConnected) cards.delete(item)
  for (const row of shown) showCard(cards.get(items.get(cardKey(row))), row)
  if (hadFocus && !$('#cards').contains(document.activeElement)) $('h1').focus()
}
