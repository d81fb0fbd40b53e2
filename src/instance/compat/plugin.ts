import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { Guest } from './guest.ts'
import { replacing } from './yielding.ts'

interface Named {
  /** Name of the plugin for Fastify. @default `fleet-` and the option in kebab case */
  readonly name?: string
  /** Describes what the app registered in place of the plugin, once the app is ready. */
  readonly describe?: (app: FastifyInstance) => void
}

/** Options of Fastify itself that a registration may have. */
const ofFastify = new Set(['prefix', 'logLevel', 'logSerializers'])
const kebab = (option: string): string => option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

/**
 * Makes one of our plugins: it joins the app that registers it.
 *
 * @param option its name among the options of `fleet`
 * @throws FLEET_ERR_PLUGIN_CONFLICT while the app boots
 */
export function fleetPlugin<T extends object>(
  option: string,
  plugin: FastifyPluginAsync<T>,
  { name = `fleet-${kebab(option)}`, describe }: Named = {},
): FastifyPluginAsync<T> {
  const join: FastifyPluginAsync<T> = async (app, options) => {
    const guest = Guest.of(app)
    if (guest.hasOurs(option)) return
    const leave = guest.enter(option)
    try {
      if (!guest.isNested && Object.keys(options).some((key) => !ofFastify.has(key))) guest.give({ [option]: options })
      guest.registered(option)
      if (describe)
        app.addHook('onReady', async () => {
          if (guest.replacedIn(replacing(option) ?? '').includes(app)) describe(app)
        })
      if (!guest.givesWay(option)) await plugin(app, options)
    } finally {
      leave()
    }
  }
  return fp(join, { name, fastify: '5.x' })
}
