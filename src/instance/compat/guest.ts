import type { FastifyInstance, RouteOptions } from 'fastify'
import { FleetError } from '../../base/errors.ts'
import {
  type Accessor,
  type Decorated,
  hasErrorHandler,
  redecorate,
  scopesBelow,
  undecorate,
} from '../../base/internals/decorators.ts'
import { addedIfMissing, checks, kinds, methods, optionOf, places, yielding } from './yielding.ts'

type Name = string | symbol
type Method = (this: FastifyInstance, name: Name, ...rest: unknown[]) => unknown
type ErrorHandler = (this: FastifyInstance, error: Error, request: unknown, reply: unknown) => unknown
type WithMethods = Record<string, Method>

const key = Symbol('fleet.guest')
/** The guest of an app, if fleet was registered there. */
export const guestOf = (app: FastifyInstance): Guest | undefined => (app as unknown as { [key]?: Guest })[key]

/** One app that fleet joins. */
export class Guest {
  readonly #app: FastifyInstance
  readonly #given: object
  readonly #canDisable: (option: string) => boolean
  /** The option of the plugin of fleet that is being registered. */
  #loading: string | undefined = 'fleet'
  readonly #adopted = new Set<string>()
  readonly #ours = {
    instance: new Map<Name, string>(),
    request: new Map<Name, string>(),
    reply: new Map<Name, string>(),
  }
  readonly #scopes = new Map<string, FastifyInstance[]>()
  readonly #listeners = new Map<string, (scope: FastifyInstance) => void>()
  readonly #routes = new Set<string>()
  /** Decorators of the app that are set aside while fleet's plugins read their own of this name. */
  readonly #aside = new Map<Name, PropertyDescriptor>()
  #hasErrorHandler = false
  #usersErrorHandler: ErrorHandler | undefined
  #conflict: FleetError | undefined

  /**
   * @param given the options of fleet that are set in code
   * @param canDisable whether an option of fleet may be `false`
   */
  constructor(app: FastifyInstance, given: object, canDisable: (option: string) => boolean) {
    this.#app = app
    this.#given = given
    this.#canDisable = canDisable
    app.decorate(key as unknown as string, this as never)
    for (const kind of kinds) {
      for (const [name, what] of yielding[kind])
        for (const scope of scopesBelow(app))
          if (scope[checks[kind]](name) && !app[checks[kind]](name)) this.#replace(what, scope)
      this.#watchDecorators(kind)
    }
    this.#watchErrorHandler()
    app.addHook('onRoute', (route) => this.#addsRoute(route))
    app.addHook('onReady', async () => {
      if (this.#conflict) throw this.#conflict
      // Without options there is nothing of ours that had to give way.
      if (!isGiven(given, 'cors') && app.hasPlugin('@fastify/cors')) this.adopt('@fastify/cors')
      if (this.#adopted.size > 0) app.log.info(`adopted: ${[...this.#adopted].join(', ')}`)
    })
  }

  /** The option of the plugin to which decorators and routes are attributed; `undefined`: to the app. */
  get loading(): string | undefined {
    return this.#loading
  }

  set loading(option: string | undefined) {
    this.#loading = option
  }

  /** All plugins of fleet are registered. */
  finish(): void {
    this.#loading = undefined
    for (const [name, theirs] of this.#aside) {
      undecorate(this.#app, 'instance', name)
      Object.defineProperty(this.#app, name, theirs)
    }
    this.#aside.clear()
  }

  adopt(what: string): void {
    this.#adopted.add(what)
  }

  /** Adopts a plugin that the app registered before. @throws FLEET_ERR_PLUGIN_CONFLICT if ours has options */
  has(what: string): boolean {
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
    const option = optionOf[what]
    const isSet = option !== undefined && isGiven(this.#given, option)
    // @fastify/cors answers preflight requests in the first hook, which is ours.
    if (isSet && (scope === this.#app || option === 'cors')) this.#fail(what, option)
    scopes.push(scope)
    this.adopt(scope === this.#app ? what : `${what} in ${scope.prefix || scope.pluginName}`)
    this.#listeners.get(what)?.(scope)
  }

  /** Ends the boot: at once in a plugin of fleet, else when the app is ready, because an error in a plugin may end the process. */
  #fail(what: string, option: string): void {
    const fix = this.#canDisable(option)
      ? `set \`${option}: false\` to use the app's, or remove it from the app`
      : 'rename it in the app'
    const error = new FleetError(
      'FLEET_ERR_PLUGIN_CONFLICT',
      `${what} is registered by the app and by fastify-fleet (\`${option}\`); ${fix}`,
    )
    if (this.#loading !== undefined) throw error
    this.#conflict ??= error
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
      const what = isOurs && addedIfMissing.has(name as string) ? yielding[kind].get(name as string) : undefined
      if (what !== undefined && !guest.replacedIn(what).includes(this)) return false
      return exists?.call(this, name, ...rest)
    }
  }

  #decorates(kind: Decorated, scope: FastifyInstance, name: Name): void {
    const ours = this.#ours[kind]
    const what = yielding[kind].get(name as string)
    if (this.#loading !== undefined) {
      const theirs =
        kind === 'instance' && scope === this.#app ? Object.getOwnPropertyDescriptor(scope, name) : undefined
      if (theirs && what !== undefined) {
        this.#aside.set(name, theirs)
        undecorate(scope, kind, name)
        this.adopt(what)
      } else if (!ours.has(name) && scope === this.#app && scope[checks[kind]](name as string))
        this.#fail(`\`${places[kind]}.${String(name)}\``, this.#loading)
      ours.set(name, this.#loading)
      return
    }
    const option = ours.get(name)
    if (option === undefined || (typeof name === 'symbol' && !isOfPlugin(name))) return
    if (what === undefined && typeof name === 'string') {
      // A scope may have a decorator of its own that its parent has too.
      if (kind === 'instance' && scope !== this.#app) return
      this.#fail(`\`${places[kind]}.${name}\``, option)
    }
    undecorate(scope, kind, name)
    if (what !== undefined) this.#replace(what, scope)
    if (scope === this.#app) ours.delete(name)
  }

  /** The app's error handler takes the place of ours, so that Fastify does not warn that one was overridden. */
  #watchErrorHandler(): void {
    const guest = this
    const app = this.#app as unknown as {
      setErrorHandler(this: FastifyInstance, handler: ErrorHandler): FastifyInstance
    }
    const { setErrorHandler } = app
    app.setErrorHandler = function (this: FastifyInstance, handler: ErrorHandler) {
      const isApp = this === guest.#app
      if (guest.#loading !== undefined && isApp) {
        if (hasErrorHandler(this)) {
          guest.adopt('error handler')
          return this
        }
        guest.#hasErrorHandler = true
        return setErrorHandler.call(this, function dispatch(this: FastifyInstance, ...args) {
          return (guest.#usersErrorHandler ?? handler).apply(this, args)
        })
      }
      const takesPlace = guest.#hasErrorHandler && guest.#usersErrorHandler === undefined
      if (!isApp || !takesPlace || typeof handler !== 'function') return setErrorHandler.call(this, handler)
      guest.#usersErrorHandler = handler
      guest.adopt('error handler')
      return this
    }
  }

  /**
   * A route that the app adds at a path of ours gets a constraint that every request meets. The router prefers it to our route,
   * which has none.
   */
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
    if (!this.#app.hasConstraintStrategy(ofApp)) this.#app.addConstraintStrategy(strategy)
    route.constraints = { ...route.constraints, [ofApp]: true }
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

const isGiven = (given: object, option: string): boolean =>
  ![undefined, false].includes((given as Record<string, undefined | false>)[option])

const ofApp = 'fleetRouteOfApp'
const strategy = {
  name: ofApp,
  storage: () => {
    const routes = new Map<unknown, unknown>()
    return {
      get: (value: unknown) => routes.get(value) ?? null,
      set: (value: unknown, route: unknown) => void routes.set(value, route),
    }
  },
  deriveConstraint: () => true,
  validate: () => undefined,
} as unknown as Parameters<FastifyInstance['addConstraintStrategy']>[0]
