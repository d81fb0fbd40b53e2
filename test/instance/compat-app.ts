// Apps with plugins of fleet that only decorate.
import type { TestContext } from 'node:test'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import * as compat from '../../src/instance/compat/index.ts'

// biome-ignore lint/suspicious/noExplicitAny: decorators that no type declares
export type Any = any
type Body = (app: Any) => unknown

export function create(t: TestContext, options: FastifyServerOptions = {}) {
  const lines: string[] = []
  const stream = { write: (line: string) => void lines.push(JSON.parse(line).msg) }
  const app: Any = Fastify({ logger: { level: 'info', stream }, ...options })
  t.after(() => app.close())
  const adopted = async (): Promise<string | undefined> => {
    await app.ready()
    return lines.find((line) => line.startsWith('adopted: '))?.slice('adopted: '.length)
  }
  return { app, adopted }
}

/** A plugin of fleet. */
export const plugin = (option: string, body: Body, named?: object): Any =>
  compat.fleetPlugin(option, async (app) => void (await body(app)), named)
/** The umbrella plugin: `stores` must not be disabled. */
export const umbrella = (...parts: readonly [string, Any][]): Any =>
  compat.fleetPlugin('fleet', async (app, given: Record<string, object>) => {
    compat.Guest.of(app).giveFleet(given, (option) => option !== 'stores')
    for (const [option, part] of parts) await app.register(part, given[option] ?? {})
  })
export const conflict = (message: RegExp) => ({ code: 'FLEET_ERR_PLUGIN_CONFLICT', message })
/** Boots an app that registers its own part before or after that of fleet. */
export async function boot(app: FastifyInstance, order: string, ours: Body, own: Body): Promise<void> {
  for (const part of order === 'before' ? [own, ours] : [ours, own]) await part(app)
  await app.ready()
}
export const orders = ['before', 'after']
