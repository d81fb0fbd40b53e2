import { randomUUID } from 'node:crypto'
import { PassThrough } from 'node:stream'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import { clientKey, FleetError } from '../../index.ts'
import { ConnectionLimits, TokenBucket } from '../connection-limits.ts'
import { failures } from '../schemas.ts'

/** A chat message, as sent to every instance. */
interface Message {
  id: string
  text: string
  /** ISO 8601. */
  at: string
  /** The instance that the sender is connected to. */
  from: string
}

const channel = 'room'
/** Heartbeat interval, ms; shorter than the idle timeout of every load balancer. */
const heartbeatMs = 15_000
const longestText = 1_000
const wanted = `send {"text": "…"} of at most ${longestText} characters`
/** Longest backlog of unread data before a listener is disconnected, bytes. */
const maxUnread = 65_536
/** Connections per client on one instance: WebSockets, and as many event streams. */
const open = { perClient: 50, all: 5_000 } as const
/** Messages per WebSocket: burst, rate per second, and the excess that closes it. */
const [burst, perSecond, patience] = [20, 5, 20]

export interface ChatOptions {
  /** Origins whose pages may connect besides the instance's own, e.g. `https://shop.example`. @default [] */
  allowOrigins?: readonly string[]
}

/** The text of a message, or `undefined` if it is invalid. */
function textOf(data: string): string | undefined {
  try {
    const text = (JSON.parse(data) as { text?: unknown } | null)?.text
    return typeof text === 'string' && text !== '' && text.length <= longestText ? text : undefined
  } catch {
    return undefined
  }
}

/** Validates messages from other instances, which may run another version. */
const isMessage = (value: unknown): value is Message => {
  const { id, text, at, from } = (value ?? {}) as Partial<Message>
  return [text, at, from].every((one) => typeof one === 'string') && /^[\w-]{1,64}$/.test(String(id))
}

/** Whether pages of this origin may connect. Programs send no Origin; browsers always send their page's. */
function mayConnect({ headers, host }: FastifyRequest, allowed: readonly string[]): boolean {
  const { origin } = headers
  if (origin === undefined) return headers['sec-fetch-site'] !== 'cross-site'
  return allowed.includes(origin) || URL.parse(origin)?.host === host
}

/** Longest frame of a client, bytes; set on the WebSocket server that all routes of the app share. */
export const maxPayload: number = 8 * longestText

/** A chat across the fleet: `/ws` sends and receives, `/events` receives. */
const chat: FastifyPluginAsync<ChatOptions> = async (app, { allowOrigins = [] }) => {
  const { fleet } = app
  const from = fleet.instance.id
  const members = new Set<WebSocket>()
  const listeners = new Set<PassThrough>()
  const [talking, listening] = [new ConnectionLimits(open), new ConnectionLimits(open)]

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
  // Load balancers close idle connections; the heartbeat also detects clients that are gone.
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
    (connections: ConnectionLimits) =>
    async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
      // The connection of a rejected client is closed.
      reply.header('connection', 'close')
      if (!mayConnect(request, allowOrigins))
        throw new FleetError(
          'FLEET_ERR_ORIGIN_REFUSED',
          `pages of ${request.headers.origin ?? 'other sites'} may not connect`,
        )
      connections.check(clientKey(request))
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
      const leave = talking.acquire(clientKey(request))
      const allowance = new TokenBucket(burst, perSecond)
      let refused = 0
      const reject = ({ code, message }: FleetError): void => {
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
            reject(new FleetError('FLEET_ERR_RATE_LIMITED', `at most ${perSecond} messages per second`))
          if (refused <= patience) return
          // 1008, policy violation. A client that does not confirm the close is disconnected.
          socket.close(1008, 'too many messages')
          setTimeout(() => socket.terminate(), 1000).unref()
          return
        }
        const text = isBinary ? undefined : textOf(String(data))
        if (text === undefined) return reject(new FleetError('FLEET_ERR_REQUEST_INVALID', wanted))
        const message: Message = { id: randomUUID(), text, at: new Date().toISOString(), from }
        fleet.publish(channel, message).catch(reject)
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
      const leave = listening.acquire(clientKey(request))
      const stream = new PassThrough()
      listeners.add(stream)
      stream.once('close', () => {
        leave()
        listeners.delete(stream)
      })
      stream.write(`retry: 1000\nevent: hello\ndata: ${JSON.stringify({ servedBy: from })}\n\n`)
      // nginx would buffer events.
      reply.header('x-accel-buffering', 'no').header('cache-control', 'no-store').type('text/event-stream')
      return reply.send(stream)
    },
  )
}
export default chat
