import { randomUUID } from 'node:crypto'
import { PassThrough } from 'node:stream'
import type { FastifyPluginAsync } from 'fastify'
import type { WebSocket } from 'ws'
import { FleetError } from '../../index.ts'
import { failures } from '../schemas.ts'

/** Who says what; the same on every instance. */
interface Message {
  id: string
  text: string
  /** ISO 8601. */
  at: string
  /** The instance that the sender is connected to. */
  from: string
}

const channel = 'room'
/** Below the idle time of every front, ms. */
const heartbeatMs = 15_000
const longestText = 1_000
const wanted = `send {"text": "…"} of at most ${longestText} characters`
/** What a listener may leave unread before it is sent away, bytes. */
const maxUnread = 1_048_576

/** The text of a message, or undefined when it is none. */
function textOf(data: string): string | undefined {
  try {
    const text = (JSON.parse(data) as { text?: unknown } | null)?.text
    return typeof text === 'string' && text !== '' && text.length <= longestText ? text : undefined
  } catch {
    return undefined
  }
}

/** Longest frame a client may send, bytes; for the WebSocket server, which all of the app's share. */
export const maxPayload: number = 8 * longestText

/** A room that spans the fleet: `/ws` to talk in it, `/events` to listen. */
const room: FastifyPluginAsync = async (app) => {
  const { fleet } = app
  const from = fleet.instance.id
  const members = new Set<WebSocket>()
  const listeners = new Set<PassThrough>()

  const unsubscribe = fleet.subscribe<Message>(channel, (message) => {
    const json = JSON.stringify(message)
    for (const socket of members) {
      if (socket.bufferedAmount > maxUnread) socket.terminate()
      else socket.send(json)
    }
    for (const stream of listeners) write(stream, `id: ${message.id}\nevent: message\ndata: ${json}\n\n`)
  })
  const write = (stream: PassThrough, text: string): void => {
    if (stream.readableLength + stream.writableLength > maxUnread) stream.destroy()
    else stream.write(text)
  }
  // A front closes what is silent, and a client that is gone without a word is noticed.
  const answered = new WeakSet<WebSocket>()
  const heartbeat = setInterval(() => {
    for (const socket of members) {
      if (answered.delete(socket)) socket.ping()
      else socket.terminate()
    }
    for (const stream of listeners) write(stream, ': still here\n\n')
  }, heartbeatMs).unref()
  app.addHook('onClose', async () => {
    clearInterval(heartbeat)
    unsubscribe()
  })

  app.route({
    method: 'GET',
    url: '/ws',
    config: { session: false },
    schema: { response: failures },
    handler() {
      throw new FleetError('FLEET_ERR_REQUEST_INVALID', 'connect with a WebSocket')
    },
    wsHandler(socket: WebSocket) {
      const refuse = ({ code, message }: FleetError): void => {
        if (socket.readyState === socket.OPEN) socket.send(JSON.stringify({ code, error: message }))
      }
      members.add(socket)
      answered.add(socket)
      socket.on('pong', () => answered.add(socket))
      socket.on('close', () => members.delete(socket))
      socket.on('error', () => socket.terminate())
      socket.on('message', (data, isBinary) => {
        const text = isBinary ? undefined : textOf(String(data))
        if (text === undefined) return refuse(new FleetError('FLEET_ERR_REQUEST_INVALID', wanted))
        const message: Message = { id: randomUUID(), text, at: new Date().toISOString(), from }
        fleet.publish(channel, message).catch(refuse)
      })
    },
  })

  app.get(
    '/events',
    {
      config: { session: false },
      schema: { response: { 200: { content: { 'text/event-stream': { schema: { type: 'string' } } } } } },
    },
    (_request, reply) => {
      const stream = new PassThrough()
      listeners.add(stream)
      stream.once('close', () => listeners.delete(stream))
      stream.write(`retry: 1000\nevent: hello\ndata: ${JSON.stringify({ servedBy: from })}\n\n`)
      // nginx would keep back what is not yet a full buffer.
      reply.header('x-accel-buffering', 'no').header('cache-control', 'no-store').type('text/event-stream')
      return reply.send(stream)
    },
  )
}
export default room
