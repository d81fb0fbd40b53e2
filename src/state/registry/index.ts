import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { FleetError } from '../../base/errors.ts'
import { int, resolveOptions, type Shapes } from '../../base/options.ts'
import type { Command } from '../../instance/identity.ts'
import { lifecycle } from '../../instance/lifecycle/index.ts'
import { broadcast } from '../broadcast/index.ts'
import { expose, exposeGauge } from '../metrics.ts'
import { Entries } from './entries.ts'
import { FleetKeys, fleetSecrets } from './fleet-keys.ts'
import { Registrar } from './heartbeat.ts'
import { Directory } from './redis-directory.ts'

export interface RegistryOptions {
  /**
   * A killed instance is gone from the list within this time, 500 to 600,000 ms; there are three beats in it. The same on
   * every instance. @default 6000
   */
  leaseMs?: number
  /** How long {@link FastifyFleet.command} waits for its confirmation, 1 to 60,000 ms. @default 2000 */
  commandTimeoutMs?: number
}

const shapes: Shapes = {
  leaseMs: int(500, 600_000, 'milliseconds'),
  commandTimeoutMs: int(1, 60_000, 'milliseconds'),
}
const defaults = { leaseMs: 6000, commandTimeoutMs: 2000 } satisfies RegistryOptions

const channel = 'fleet:registry'

/** What travels on the channel. */
type Message =
  | { readonly kind: 'changed'; readonly by: string }
  /** @property boot the process that is meant: not one that has its id later */
  | {
      readonly kind: 'command'
      readonly to: string
      readonly boot: string
      readonly command: Command
      readonly ticket: string
    }
  | { readonly kind: 'done'; readonly ticket: string }

/** Commands that were sent and are not confirmed yet. */
class Commands {
  readonly #waiting = new Map<string, () => void>()
  readonly #timeoutMs: number

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  /** @throws FLEET_ERR_COMMAND_TIMEOUT; whatever `send` throws */
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
  const options = resolveOptions<typeof defaults>('registry', shapes, defaults, given)
  if (!app.hasPlugin('fleet-lifecycle')) await app.register(lifecycle)
  if (!app.hasPlugin('fleet-broadcast')) await app.register(broadcast)
  const { fleet, redis } = app
  fleet.configure('registry', options)
  if (redis) {
    const entries = new Entries(new FleetKeys(await fleetSecrets(app), 'registry', fleet.name))
    return shared(app, new Directory(redis, app.redisKey), entries, options)
  }

  fleet.describe('registry', 'memory')
  fleet.command = async (id, command) => obey(app, known(app, id, command))
}

function shared(app: FastifyInstance, directory: Directory, entries: Entries, options: typeof defaults): void {
  const { fleet } = app
  const { id } = fleet.instance
  const tell = (message: Message): Promise<void> => fleet.publish(channel, message)
  const whisper = (message: Message): Promise<void> => tell(message).catch(() => {})
  const commands = new Commands(options.commandTimeoutMs)
  const boot = randomUUID()
  const registrar = new Registrar({
    directory,
    entries,
    boot,
    leaseMs: options.leaseMs,
    log: app.log,
    self: () => fleet.self(),
    announce: () => whisper({ kind: 'changed', by: id }),
    onHealth: (health) => fleet.describe('registry', health),
  })

  exposeGauge(
    app,
    'fleet_registry_live',
    'Whether the list of peers is up to date (1), or the last one known (0)',
    () => (fleet.facts.registry === 'live' ? 1 : 0),
  )
  expose(
    app,
    'fleet_registry_rejected_total',
    'Entries in the registry that were ignored',
    'reason',
    registrar.rejections,
  )
  fleet.peers = () => registrar.peers
  fleet.announce = () => registrar.changed()
  fleet.survey = () => registrar.survey()
  fleet.command = async (to, name) => {
    const command = known(app, to, name)
    if (to === id) return obey(app, command)
    const peer = registrar.bootOf(to) ?? ''
    await commands.confirmed((ticket) => tell({ kind: 'command', to, boot: peer, command, ticket }))
  }
  const listen = (message: Message | null): void => {
    if (message?.kind === 'changed' && message.by !== id) registrar.heard()
    if (message?.kind === 'done') commands.done(message.ticket)
    if (message?.kind !== 'command' || message.to !== id || message.boot !== boot) return
    if (message.command !== 'drain' && message.command !== 'undrain') return
    app.log.info({ command: message.command }, 'registry: command from a peer')
    obey(app, message.command)
    void whisper({ kind: 'done', ticket: message.ticket })
  }

  fleet.onState((state) => {
    if (state === 'closed') registrar.leave()
    else if (state === 'serving') registrar.join()
    else registrar.changed()
  })
  app.addHook('onReady', async () => {
    fleet.subscribe<Message>(channel, listen, { onReconnect: () => registrar.restart() })
    await registrar.beat()
  })
  app.addHook('onClose', async () => {
    registrar.close()
    await registrar.leave()
  })
}

/** @throws FLEET_ERR_INSTANCE_UNKNOWN, FLEET_ERR_OPTION_INVALID */
function known(app: FastifyInstance, id: string, command: Command): Command {
  if (command !== 'drain' && command !== 'undrain')
    throw new FleetError('FLEET_ERR_OPTION_INVALID', 'a command is `drain` or `undrain`')
  if (app.fleet.peers().some((peer) => peer.id === id)) return command
  throw new FleetError('FLEET_ERR_INSTANCE_UNKNOWN', `no instance ${JSON.stringify(id)} in this fleet`)
}

function obey({ fleet }: FastifyInstance, command: Command): void {
  if (command === 'drain') fleet.drain()
  else fleet.undrain()
}

/**
 * Fills `app.fleet.peers()` with the whole fleet, and carries `app.fleet.command()` to any instance of it. While Redis is
 * away the last known peers stay, with the `lastSeen` they had, and `app.fleet.facts.registry` says `last-known`.
 */
export const registry: FastifyPluginAsync<RegistryOptions> = fp(plugin, { name: 'fleet-registry', fastify: '5.x' })
export default registry
