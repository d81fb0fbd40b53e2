// Requests by route over the last minutes: the busiest, the slowest, the most failing.

let routes = { routes: [], omitted: 0, windowMs: 0 }
const routeFilters = $('#route-filters')

const failureShare = ({ requests, serverErrors }) => (requests > 0 ? serverErrors / requests : 0)
const clientShare = ({ requests, clientErrors }) => (requests > 0 ? clientErrors / requests : 0)

const routeTable = createTable({
  label: 'Routes',
  keyOf: ({ method, route }) => `${method} ${route}`,
  toneOf: (row) => (failureShare(row) >= 0.05 ? 'bad' : failureShare(row) > 0 ? 'warn' : 'none'),
  order: { key: 'requests', descending: true },
  whenEmpty: 'No requests in this time',
  columns: [
    words('route', 'Route', 13, ({ method, route }) => `${method} ${route}`),
    figure('requests', 'Requests', 6.5, format.count),
    figure('rps', 'Requests/s', 6.5, format.rate),
    figure('p50', 'p50', 5.5, format.ms),
    figure('p95', 'p95', 5.5, format.ms),
    figure('p99', 'p99', 5.5, format.ms),
    { ...figure('clientErrors', '4xx', 5), value: clientShare, text: (row) => format.percent(clientShare(row)) },
    { ...figure('failed', '5xx', 5), value: failureShare, text: (row) => format.percent(failureShare(row)) },
  ],
})
routeTable.element.classList.add('tall')
$('#route-table').append(routeTable.element)

views.routes = {
  async refresh() {
    routes = (await load('routes', 'routes')) ?? routes
  },
  render() {
    const text = routeFilters.elements.text.value.toLowerCase()
    const rows = routes.routes.filter(({ method, route }) => `${method} ${route}`.toLowerCase().includes(text))
    const omitted = routes.omitted > 0 ? `; ${format.plural(routes.omitted, 'rarer route')} left out` : ''
    setText($('#route-note'), routes.windowMs ? `of the last ${format.duration(routes.windowMs)}${omitted}` : '')
    routeTable.update(rows)
  },
}

routeFilters.addEventListener('submit', (event) => event.preventDefault())
routeFilters.addEventListener('input', ({ target }) => {
  if (target.name === 'order') routeTable.setOrder(target.value, true)
  else views.routes.render()
})
/** A choice stays checked only while it is the order of the table. */
routeTable.element.addEventListener('sorted', ({ detail: { key, descending } }) => {
  for (const { value } of routeFilters.elements.order) {
    $(`[value=${value}]`, $('#route-order')).checked = descending && key === value
  }
})
