import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'

const app = Fastify(serverOptions())
await app.register(websocket)
await app.register(fleet, { name: 'chat' })

// Each instance passes a message of the fleet to its own clients.
app.fleet.subscribe('chat', (message) => {
  for (const client of app.websocketServer.clients) client.send(JSON.stringify(message))
})

app.get('/ws', { websocket: true }, (socket) => {
  socket.on('message', (data) => {
    const message = { text: String(data).slice(0, 1_000), by: app.fleet.instance.id }
    app.fleet.publish('chat', message).catch((error) => socket.send(JSON.stringify({ error: error.code })))
  })
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
