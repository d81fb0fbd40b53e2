const $ = (id) => document.getElementById(id)

async function showProducts() {
  const response = await fetch('/api/v1/products')
  const { products } = await response.json()
  const rows = products.map(({ sku, name, priceCents, stock }) => {
    const row = document.createElement('tr')
    for (const text of [sku, name, (priceCents / 100).toFixed(2), stock]) row.insertCell().textContent = text
    return row
  })
  $('products').replaceChildren(...rows)
  $('products-from').textContent = `from ${response.headers.get('x-instance-id') ?? 'an instance'}`
}

// A client of a fleet reconnects by itself, and not all of them in the same moment.
let socket
let tries = 0
function connect() {
  socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`)
  socket.onopen = () => {
    tries = 0
    $('state').textContent = 'connected'
  }
  socket.onmessage = ({ data }) => {
    const { text, from, error } = JSON.parse(data)
    const item = document.createElement('li')
    item.textContent = error ?? `${text} (by way of ${from})`
    $('messages').prepend(item)
  }
  socket.onclose = () => {
    $('state').textContent = 'connecting again'
    setTimeout(connect, Math.random() * Math.min(10_000, 250 * 2 ** tries++))
  }
}

$('say').onsubmit = (event) => {
  event.preventDefault()
  if (socket.readyState !== WebSocket.OPEN) return
  socket.send(JSON.stringify({ text: $('text').value }))
  event.target.reset()
}

connect()
await showProducts()
