import type { FastifyInstance } from 'fastify'
import { readEnv } from '../../base/env.ts'
import { constantOf } from '../../base/internals/decorators.ts'
import { FleetStore } from './adapters.ts'

/** Describes where the app's own session plugin keeps its sessions. Warns if they are lost with the process. */
export function describeAdopted(app: FastifyInstance): void {
  const store = constantOf(app, 'sessionStore')
  const kind = kindOf(store)
  if (app.hasDecorator('fleet')) app.fleet.describe('sessionStore', kind)
  if (kind === 'memory' && readEnv().production)
    app.log.warn(
      'session: the app has its own session plugin, which keeps sessions in memory: other instances do not know them, and ' +
        'they are lost with the process; give @fastify/session `store: new FleetStore({ client: app.redis })`, or remove it and use `request.session` of ' +
        'fastify-fleet',
    )
}

function kindOf(store: unknown): string {
  if (store instanceof FleetStore) return store.sessions.kind
  // The default store of @fastify/session.
  return (store as { store?: unknown } | undefined)?.store instanceof Map ? 'memory' : 'custom'
}
