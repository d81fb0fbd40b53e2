// The registry: which instances a fleet has. Concepts:
//   Heartbeat (heartbeat.ts)             renews this instance's lease and reads changes every `leaseMs` / 3
//   RedisDirectory (redis-directory.ts)  the list in Redis, and the script of a heartbeat
//   Peers (peers.ts)                     the list in memory
//   SignedEntries (signed-entries.ts)    entries are signed, because other applications may write to this Redis
//   FleetKeys (fleet-keys.ts)            the signing keys, derived from the fleet's secret

import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { FleetError } from '../../base/errors.ts'
import { int, type OptionsOf, type Resolved, resolveOptions } from '../../base/options.ts'
import { extendFleet, fleetPlugin } from '../../instance/compat/index.ts'
import type { Command } from '../../instance/identity.ts'
import { lifecycle } from '../../instance/lifecycle/index.ts'
import { expose, exposeGauge } from '../../instance/metrics/expose.ts'
import { broadcast } from '../broadcast/index.ts'
import { redisOf } from '../redis/index.ts'
import { FleetKeys, fleetSecrets } from './fleet-keys.ts'
import { Heartbeat } from './heartbeat.ts'
import type { GoneListener } from './peers.ts'
import { RedisDirectory } from './redis-directory.ts'
import { SignedEntries } from './signed-entries.ts'

/** @internal */
export const registryOptions = {
  /**
   * A killed instance disappears from the list within this time. There are three heartbeats per lease. Use the same value on
   * every instance.
   */
  leaseMs: int(500, 600_000, 'milliseconds').default(6000),
  /** How long {@link FastifyFleet.command} waits for the confirmation. */
  commandTimeoutMs: int(1, 60_000, 'milliseconds').default(2000),
}
export type RegistryOptions = OptionsOf<typeof registryOptions>

declare module 'fastify' {
  interface FastifyFleet {
    /**
     * Calls back for each process that is no longer in the list, with its last entry. It may have left by itself.
     *
     * @internal
     */
    onGone?(listener: GoneListener): void
  }
}

const channel = 'fleet:registry'

/** A message on the channel. */
type RegistryMessage =
  | { readonly kind: 'changed'; readonly by: string }
  /** @property boot the addressed process; a later one with the same id ignores the command */
  | {
      readonly kind: 'command'
      readonly to: string
      readonly boot: string
      readonly command: Command
      readonly ticket: string
    }
  | { readonly kind: 'done'; readonly ticket: string }

/** Commands that are not confirmed yet. */
class Commands {
  readonly #waiting = new Map<string, () => void>()
  readonly #timeoutMs: number

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  /** @throws FLEET_ERR_COMMAND_TIMEOUT, and the errors of `send` */
  async confirmed(send: (ticket: string) => Promise<void>): Promise<void> {
    const ticket = randomUUID()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const timer = setTimeout(() => reject(new FleetError('FLEET_ERR_COMMAND_TIMEOUT')), this.#timeoutMs)
    this.#waiting.set(ticket, resolve)
    try {
      await Promise.all([promise, send(ticket)])
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(ticket)
    }
  }

  done(ticket: string): void {
    this.#waiting.get(ticket)?.()
  }
}

const plugin: FastifyPluginAsync<RegistryOptions> = async (app, given) => {
  const options = resolveOptions('registry', registryOptions, given)
  await ensure(app, lifecycle, broadcast)
  const { fleet } = app
  const redis = redisOf(app)
  fleet.configure('registry', options)
  if (redis) {
    const entries = new SignedEntries(new FleetKeys(await fleetSecrets(app), 'registry', fleet.name))
    return joinFleet(app, new RedisDirectory(redis, app.redisKey), entries, options)
  }

  fleet.describe('registry', 'memory')
  extendFleet(app, { command: async (id, command) => execute(app, validCommand(app, id, command)) })
}

function joinFleet(
  app: FastifyInstance,
  directory: RedisDirectory,
  entries: SignedEntries,
  options: Resolved<typeof registryOptions>,
): void {
  const { fleet } = app
  const { id } = fleet.instance
  const publish = (message: RegistryMessage): Promise<void> => fleet.publish(channel, message)
  const publishQuietly = (message: RegistryMessage): Promise<void> => publish(message).catch(() => {})
  const commands = new Commands(options.commandTimeoutMs)
  const boot = randomUUID()
  const gone: GoneListener[] = []
  fleet.onGone = (listener) => void gone.push(listener)
  const heartbeat = new Heartbeat({
    directory,
    entries,
    boot,
    leaseMs: options.leaseMs,
    log: app.log,
    self: () => fleet.self(),
    announce: () => publishQuietly({ kind: 'changed', by: id }),
    onHealth: (health) => fleet.describe('registry', health),
    onGone: (peer, isSeen) => {
      for (const listener of gone) listener(peer, isSeen)
    },
  })

  const live = '1 if the list of peers is up to date, 0 if it is the last known one'
  exposeGauge(app, 'fleet_registry_live', live, () => (fleet.facts.registry === 'live' ? 1 : 0), 'min')
  expose(
    app,
    'fleet_registry_rejected_total',
    'Registry entries that were ignored, by reason',
    'reason',
    heartbeat.rejections,
  )
  extendFleet(app, {
    peers: () => heartbeat.peers,
    announce: () => heartbeat.changed(),
    survey: () => heartbeat.survey(),
    async command(to, name) {
      const command = validCommand(app, to, name)
      if (to === id) return execute(app, command)
      const peer = heartbeat.bootOf(to) ?? ''
      await commands.confirmed((ticket) => publish({ kind: 'command', to, boot: peer, command, ticket }))
    },
  })
  const listen = (message: RegistryMessage | null): void => {
    if (message?.kind === 'changed' && message.by !== id) heartbeat.peerChanged()
    if (message?.kind === 'done') commands.done(message.ticket)
    if (message?.kind !== 'command' || message.to !== id || message.boot !== boot) return
    if (message.command !== 'drain' && message.command !== 'undrain') return
    app.log.info({ command: message.command }, 'registry: command from a peer')
    execute(app, message.command)
    void publishQuietly({ kind: 'done', ticket: message.ticket })
  }

  fleet.onState((state) => {
    if (state === 'closed') heartbeat.leave()
    else if (state === 'serving') heartbeat.join()
    else heartbeat.changed()
  })
  app.addHook('onReady', async () => {
    fleet.subscribe<RegistryMessage>(channel, listen, { onReconnect: () => heartbeat.restart() })
    await heartbeat.start()
  })
  app.addHook('onClose', async () => {
    heartbeat.close()
    await heartbeat.leave()
  })
}

/** @throws FLEET_ERR_INSTANCE_UNKNOWN, FLEET_ERR_OPTION_INVALID */
function validCommand(app: FastifyInstance, id: string, command: Command): Command {
  if (command !== 'drain' && command !== 'undrain')
    throw new FleetError('FLEET_ERR_OPTION_INVALID', 'a command is `drain` or `undrain`')
  if (app.fleet.peers().some((peer) => peer.id === id)) return command
  throw new FleetError('FLEET_ERR_INSTANCE_UNKNOWN', `there is no instance ${JSON.stringify(id)} in this fleet`)
}

function execute({ fleet }: FastifyInstance, command: Command): void {
  if (command === 'drain') fleet.drain()
  else fleet.undrain()
}

/**
 * Lists the whole fleet in `app.fleet.peers()` and sends `app.fleet.command()` to any instance. While Redis is unavailable the
 * last known peers stay, with their last `lastSeen`, and `app.fleet.facts.registry` is `last-known`.
 */
export const registry: FastifyPluginAsync<RegistryOptions> = fleetPlugin('registry', plugin)
export default registry
