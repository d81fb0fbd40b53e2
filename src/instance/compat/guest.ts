import type { FastifyInstance, RouteOptions } from 'fastify'
import { dictionary } from '../../base/dictionary.ts'
import { FleetError } from '../../base/errors.ts'
import { type Accessor, type Decorated, redecorate, scopesBelow, undecorate } from '../../base/internals/decorators.ts'
import { addHooksUntraced } from '../../base/internals/otel.ts'
import { preferRoute, shareErrorHandler } from './sharing.ts'
import { addedIfMissing, checks, kinds, methods, optionOf, places, replacing, yielding } from './yielding.ts'

/** The plugin of fleet that registers something, and the one whose registration by the app led to it, `fleet` for example. */
interface Owner {
  readonly option: string
  readonly by: string
}

const required = (option: string, by: string): string =>
  by === option || by === 'fleet' ? '' : `, which \`${by}\` requires,`
const whose = (option: string, by: string): string => `\`${option}\`${required(option, by).replace(/,$/, '')}`

type Name = string | symbol
type Method = (this: FastifyInstance, name: Name, ...rest: unknown[]) => unknown
type WithMethods = Record<string, Method>

const key = Symbol('fleet.guest')
/** The guest of an app or its parent, if fleet or one of its plugins was registered there. */
export const guestOf = (app: FastifyInstance): Guest | undefined => (app as unknown as { [key]?: Guest })[key]

/** One app, or scope of an app, in which fleet or some of its plugins are registered. */
export class Guest {
  readonly #app: FastifyInstance
  /** The guest of the next parent that has one. */
  readonly #parent: Guest | undefined
  /** Options that are set in code, by the names that they have in fleet. */
  readonly #given: Record<string, unknown> = dictionary()
  #canDisable: (option: string) => boolean = () => false
  /** The plugin of fleet that is being registered; `undefined`: what is registered is the app's. */
  #loading: Owner | undefined
  readonly #plugins = new Map<string, Owner>()
  readonly #adopted = new Set<string>()
  readonly #ours = {
    instance: new Map<Name, Owner>(),
    request: new Map<Name, Owner>(),
    reply: new Map<Name, Owner>(),
  }
  /** Scopes to which the app has added a decorator in place of ours. */
  readonly #addedIn = new Map<Name, readonly FastifyInstance[]>()
  readonly #scopes = new Map<string, FastifyInstance[]>()
  readonly #listeners = new Map<string, (scope: FastifyInstance) => void>()
  readonly #routes = new Set<string>()
  #conflict: FleetError | undefined

  /** The guest of exactly this app or scope. */
  static of(app: FastifyInstance): Guest {
    const guest = guestOf(app)
    return guest && guest.#app === app ? guest : new Guest(app, guest)
  }

  private constructor(app: FastifyInstance, parent: Guest | undefined) {
    this.#app = app
    this.#parent = parent
    app.decorate(key as unknown as string, this as never)
    for (const kind of kinds) this.#watchDecorators(kind)
    shareErrorHandler(app, this)
    app.addHook('onRoute', (route) => this.#addsRoute(route))
    app.addHook('onReady', async () => {
      if (this.#conflict) throw this.#conflict
      // Without options there is nothing of ours that had to give way.
      if (this.#plugins.has('fleet') && !this.#isGiven('cors') && app.hasPlugin('@fastify/cors'))
        this.adopt('@fastify/cors')
      if (this.#adopted.size > 0) app.log.info(`adopted: ${[...this.#adopted].join(', ')}`)
    })
  }

  /** Options that are set in code; of `fleet`, those of all plugins. */
  give(given: object): void {
    for (const [option, value] of Object.entries(given)) if (value !== undefined) this.#given[option] = value
    for (const [what, scopes] of this.#scopes) for (const scope of scopes) this.#failIfGiven(what, scope)
  }

  /** @param canDisable whether an option of fleet may be `false` */
  giveFleet(given: object, canDisable: (option: string) => boolean): void {
    this.#canDisable = canDisable
    this.give(given)
  }

  #isGiven(option: string): boolean {
    return ![undefined, false].includes(this.#given[option] as undefined | false)
  }

  /**
   * Whether this app has a plugin of fleet already, so that `fleet` uses it.
   *
   * @throws FLEET_ERR_PLUGIN_CONFLICT if one of the two would lose its options
   */
  hasOurs(option: string): boolean {
    const first = this.#plugins.get(option)
    if (!first) return false
    if (this.#loading?.by === 'fleet' && !this.#isGiven(option)) return true
    const fix =
      first.by === 'fleet'
        ? `set its options as \`${option}\` of \`fleet\``
        : first.by === option
          ? 'register it once, with its options'
          : `register it before \`${first.by}\`, which requires it`
    throw new FleetError(
      'FLEET_ERR_PLUGIN_CONFLICT',
      `\`${option}\` of fastify-fleet is registered a second time, after \`${first.by}\`; ${fix}`,
    )
  }

  /** What is registered from now on is of a plugin of fleet. @returns a function that ends this */
  enter(option: string): () => void {
    const outer = this.#loading
    if (!outer) this.#findInScopes()
    const leaveParent = this.#parent?.enter(option)
    const traceHooks = outer ? undefined : addHooksUntraced(this.#app)
    this.#loading = { option, by: outer?.by ?? option }
    return () => {
      this.#loading = outer
      traceHooks?.()
      leaveParent?.()
    }
  }

  /** Finds what the app registered in scopes before. */
  #findInScopes(): void {
    const scopes = scopesBelow(this.#app)
    for (const kind of kinds)
      for (const [name, what] of yielding[kind])
        for (const scope of scopes)
          if (scope[checks[kind]](name) && !this.#app[checks[kind]](name)) this.#replace(what, scope)
  }

  get isLoading(): boolean {
    return this.#loading !== undefined
  }

  /** Whether the plugin is registered by another one of fleet. */
  get isNested(): boolean {
    return this.#loading !== undefined && this.#loading.by !== this.#loading.option
  }

  /** Notes that a plugin of fleet is registered. */
  registered(option: string): void {
    this.#plugins.set(option, { option, by: this.#loading?.by ?? option })
  }

  /**
   * A plugin of fleet in two scopes of one app that have something in common.
   *
   * @param shared what is there already; `undefined` is returned if the app adds it
   */
  secondScope(shared: string): FleetError | undefined {
    if (this.#loading === undefined) return undefined
    const { option, by } = this.#loading
    return new FleetError(
      'FLEET_ERR_PLUGIN_CONFLICT',
      `\`${option}\` of fastify-fleet${required(option, by)} is registered a second time, in another scope of the app, whose scopes share ` +
        `${shared}; register it once, in a parent of these scopes`,
    )
  }

  adopt(what: string): void {
    this.#adopted.add(what)
  }

  /** Adopts what the app registered before in place of this plugin. @throws FLEET_ERR_PLUGIN_CONFLICT if ours has options */
  givesWay(option: string): boolean {
    const what = replacing(option)
    if (what === undefined) return false
    const [place, name] = what.split('.') as [string, string | undefined]
    const found =
      place === 'request' && name !== undefined ? this.#app.hasRequestDecorator(name) : this.#app.hasPlugin(what)
    if (found) this.#replace(what, this.#app)
    return found
  }

  /** Calls back for each scope in which the app's own plugin replaces ours. */
  onReplaced(what: string, listener: (scope: FastifyInstance) => void): void {
    this.#listeners.set(what, listener)
    for (const scope of this.replacedIn(what)) listener(scope)
  }

  replacedIn(what: string): FastifyInstance[] {
    const scopes = this.#scopes.get(what) ?? []
    this.#scopes.set(what, scopes)
    return scopes
  }

  #replace(what: string, scope: FastifyInstance): void {
    const scopes = this.replacedIn(what)
    if (scopes.includes(scope)) return
    this.#failIfGiven(what, scope)
    scopes.push(scope)
    this.adopt(scope === this.#app ? what : `${what} in ${scope.prefix || scope.pluginName}`)
    this.#listeners.get(what)?.(scope)
  }

  #failIfGiven(what: string, scope: FastifyInstance): void {
    const option = optionOf[what]
    const isSet = option !== undefined && this.#isGiven(option)
    // The hook of @fastify/cors runs in all scopes: it answers preflight requests, or replaces the headers of the app's.
    if (isSet && (scope === this.#app || option === 'cors'))
      this.#fail(what, this.#plugins.get(option) ?? { option, by: 'fleet' })
  }

  /** Ends the boot: at once in a plugin of fleet, else when the app is ready, because an error in a plugin may end the process. */
  #fail(what: string, { option, by }: Owner, first?: Owner): void {
    const error = new FleetError(
      'FLEET_ERR_PLUGIN_CONFLICT',
      first
        ? `${what} is registered by \`${first.by}\` of fastify-fleet in a parent and by \`${option}\` here; register it once`
        : `${what} is registered by the app and by fastify-fleet (${whose(option, by)}); ${this.#fix(option, by)}`,
    )
    if (this.#loading !== undefined) throw error
    this.#conflict ??= error
  }

  #fix(option: string, by: string): string {
    if (by !== 'fleet') return `remove or rename it in the app, or do not register \`${by}\``
    return this.#canDisable(option)
      ? `set \`${option}: false\` to use the app's, or remove it from the app`
      : 'rename it in the app'
  }

  #watchDecorators(kind: Decorated): void {
    const guest = this
    const app = this.#app as unknown as WithMethods
    const [add, has] = [methods[kind], checks[kind]]
    const { [add]: decorate, [has]: exists } = app as { [name: string]: Method }
    app[add] = function (this: FastifyInstance, name: Name, ...rest: unknown[]) {
      guest.#decorates(kind, this, name)
      const [value] = rest
      if (guest.#loading === undefined || typeof name === 'symbol' || !isAccessor(value))
        return decorate?.call(this, name, ...rest)
      // Fastify defines accessors that cannot be removed.
      decorate?.call(this, name, () => undefined)
      redecorate(this, kind, name, value)
      return this
    }
    app[has] = function (this: FastifyInstance, name: Name, ...rest: unknown[]) {
      const isOurs = guest.#loading === undefined && guest.#ours[kind].has(name)
      if (isOurs && addedIfMissing.has(name as string) && !guest.#addedIn.get(name)?.includes(this)) return false
      return exists?.call(this, name, ...rest)
    }
  }

  #decorates(kind: Decorated, scope: FastifyInstance, name: Name): void {
    const ours = this.#ours[kind]
    const what = yielding[kind].get(name as string)
    if (this.#loading !== undefined) {
      // A scope in which plugins of fleet are registered has a guest of its own.
      if (guestOf(scope) !== this) return
      const isTaken = kind === 'instance' ? Object.hasOwn(scope, name) : scope[checks[kind]](name as string)
      if (isTaken && !ours.has(name) && scope === this.#app)
        this.#fail(`\`${places[kind]}.${String(name)}\``, this.#loading, this.#parent?.ownerOf(kind, name))
      ours.set(name, this.#loading)
      return
    }
    const owner = ours.get(name)
    if (owner === undefined || (typeof name === 'symbol' && !isOfPlugin(name))) return
    if (what === undefined && typeof name === 'string') {
      // A scope may have a decorator of its own that its parent has too.
      if (kind === 'instance' && scope !== this.#app) return
      this.#fail(`\`${places[kind]}.${name}\``, owner)
    }
    undecorate(scope, kind, name)
    this.#addedIn.set(name, [...(this.#addedIn.get(name) ?? []), scope])
    if (what !== undefined) this.#replace(what, scope)
    if (scope === this.#app) ours.delete(name)
  }

  ownerOf(kind: Decorated, name: Name): Owner | undefined {
    return this.#ours[kind].get(name) ?? this.#parent?.ownerOf(kind, name)
  }

  /** A route that the app adds at a path of ours is preferred to ours. */
  #addsRoute(route: RouteOptions): void {
    const names = [route.method].flat().map((method) => `${method} ${route.url}`)
    if (this.#loading !== undefined) {
      for (const name of names) this.#routes.add(name)
      const [method, url] = [[route.method].flat()[0] as 'GET', route.url]
      if (method !== ('HEAD' as string) && this.#app.hasRoute({ method, url }))
        this.#fail(`route ${method} ${url}`, this.#loading)
      return
    }
    const taken = names.filter((name) => this.#routes.has(name))
    if (taken.length === 0) return
    preferRoute(this.#app, route)
    for (const name of taken) {
      this.#routes.delete(name)
      if (!name.startsWith('HEAD ')) this.adopt(`route ${name}`)
    }
  }
}

const isAccessor = (value: unknown): value is Accessor =>
  typeof value === 'object' && value !== null && ('getter' in value || 'setter' in value)

/** A symbol of @fastify/cookie, for example, and none of ours. */
const isOfPlugin = (symbol: symbol): boolean => symbol.description?.startsWith('fastify.') ?? false
