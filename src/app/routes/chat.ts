import { randomUUID } from 'node:crypto'
import { PassThrough } from 'node:stream'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import { clientKey, FleetError } from '../../index.ts'
import { Allowance, Guests } from '../guests.ts'
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
const maxUnread = 65_536
/** What a client may have open on one instance: WebSockets, and as many event streams. */
const open = { perClient: 50, all: 5_000 } as const
/** Messages that one WebSocket may send at once, per second after that, and too many before it is closed. */
const [burst, perSecond, patience] = [20, 5, 20]

export interface RoomOptions {
  /** Origins whose pages may connect besides the instance's own, e.g. `https://shop.example`. @default [] */
  allowOrigins?: readonly string[]
}

/** The text of a message, or undefined when it is none. */
function textOf(data: string): string | undefined {
  try {
    const text = (JSON.parse(data) as { text?: unknown } | null)?.text
    return typeof text === 'string' && text !== '' && text.length <= longestText ? text : undefined
  } catch {
    return undefined
  }
}

/** Other instances may be of another version. */
const isMessage = (value: unknown): value is Message => {
  const { id, text, at, from } = (value ?? {}) as Partial<Message>
  return [text, at, from].every((one) => typeof one === 'string') && /^[\w-]{1,64}$/.test(String(id))
}

/** Whether a page of this origin may connect. Programs name none, and a browser always names its page's. */
function mayConnect({ headers, host }: FastifyRequest, allowed: readonly string[]): boolean {
  const { origin } = headers
  if (origin === undefined) return headers['sec-fetch-site'] !== 'cross-site'
  return allowed.includes(origin) || URL.parse(origin)?.host === host
}

/** Longest frame a client may send, bytes; for the WebSocket server, which all of the app's share. */
export const maxPayload: number = 8 * longestText

/** A room that spans the fleet: `/ws` to talk in it, `/events` to listen. */
const room: FastifyPluginAsync<RoomOptions> = async (app, { allowOrigins = [] }) => {
  const { fleet } = app
  const from = fleet.instance.id
  const members = new Set<WebSocket>()
  const listeners = new Set<PassThrough>()
  const [talking, listening] = [new Guests(open), new Guests(open)]

  const unsubscribe = fleet.subscribe(channel, (message) => {
    if (!isMessage(message)) return
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

  const admit =
    (guests: Guests) =>
    async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
      // The connection of a client that is rejected is closed.
      reply.header('connection', 'close')
      if (!mayConnect(request, allowOrigins))
        throw new FleetError(
          'FLEET_ERR_ORIGIN_REFUSED',
          `pages of ${request.headers.origin ?? 'other sites'} may not connect`,
        )
      guests.check(clientKey(request))
      reply.removeHeader('connection')
    }

  app.route({
    method: 'GET',
    url: '/ws',
    config: { session: false },
    onRequest: admit(talking),
    schema: { response: failures },
    handler() {
      throw new FleetError('FLEET_ERR_REQUEST_INVALID', 'connect with a WebSocket')
    },
    wsHandler(socket: WebSocket, request: FastifyRequest) {
      const leave = talking.enter(clientKey(request))
      const allowance = new Allowance(burst, perSecond)
      let refused = 0
      const refuse = ({ code, message }: FleetError): void => {
        if (socket.readyState === socket.OPEN) socket.send(JSON.stringify({ code, error: message }))
      }
      members.add(socket)
      answered.add(socket)
      socket.on('pong', () => answered.add(socket))
      socket.on('close', () => {
        leave()
        members.delete(socket)
      })
      socket.on('error', () => socket.terminate())
      socket.on('message', (data, isBinary) => {
        if (refused > patience) return
        if (!allowance.take()) {
          if (refused++ === 0)
            refuse(new FleetError('FLEET_ERR_RATE_LIMITED', `at most ${perSecond} messages per second`))
          if (refused <= patience) return
          // 1008, policy violation. One that does not answer the close is cut off.
          socket.close(1008, 'too many messages')
          setTimeout(() => socket.terminate(), 1000).unref()
          return
        }
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
      onRequest: admit(listening),
      schema: { response: { 200: { content: { 'text/event-stream': { schema: { type: 'string' } } } } } },
    },
    (request, reply) => {
      const leave = listening.enter(clientKey(request))
      const stream = new PassThrough()
      listeners.add(stream)
      stream.once('close', () => {
        leave()
        listeners.delete(stream)
      })
      stream.write(`retry: 1000\nevent: hello\ndata: ${JSON.stringify({ servedBy: from })}\n\n`)
      // nginx would keep back what is not yet a full buffer.
      reply.header('x-accel-buffering', 'no').header('cache-control', 'no-store').type('text/event-stream')
      return reply.send(stream)
    },
  )
}
export default room
