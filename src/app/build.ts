import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { FleetError, type FleetOptions, fleet, serverOptions } from '../index.ts'
import { data } from './data/index.ts'
import account from './routes/account.ts'
import auth from './routes/auth.ts'
import chat, { maxPayload } from './routes/chat.ts'
import load from './routes/load.ts'
import pages from './routes/pages.ts'
import products from './routes/products.ts'

export interface BuildOptions {
  /** Overrides of the environment. @default {} */
  fleet?: FleetOptions
  /** Origins whose pages may join the chat besides the app's own. @default [] */
  allowOrigins?: readonly string[]
  /** @default true */
  logger?: boolean
}

/** Builds the reference application, ready to listen. */
export async function build({
  fleet: options = {},
  allowOrigins = [],
  logger = true,
}: BuildOptions = {}): Promise<FastifyInstance> {
  const app = Fastify({
    ...serverOptions(),
    ...(!logger && { logger: false }),
    bodyLimit: 262_144,
    // Reject values of the wrong type instead of coercing them.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
  })
  await app.register(fleet, { errorResponses: true, ...options })
  await app.register(data)
  await app.register(websocket, { options: { maxPayload } })
  app.setNotFoundHandler((request) => {
    throw new FleetError('FLEET_ERR_ROUTE_UNKNOWN', `${request.method} ${request.url.split('?', 1)[0]}`)
  })

  await app.register(auth, { prefix: '/api/v1/auth' })
  await app.register(account, { prefix: '/api/v1' })
  await app.register(products, { prefix: '/api/v1/products' })
  await app.register(chat, { allowOrigins })
  await app.register(load)
  await app.register(pages)
  return app
}
