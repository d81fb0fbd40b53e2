// The scripts of the pages without a browser: they run in a context whose elements only keep what is written to them.
import { readFileSync } from 'node:fs'
import { type Context, createContext, runInContext } from 'node:vm'

const assets = new URL('../../src/dashboard/assets/', import.meta.url)

/** The scripts that a page names, in its order. */
export const scriptsOf = (page: string): string[] =>
  [...readFileSync(new URL(`${page}.html`, assets), 'utf8').matchAll(/<script src="([\w-]+\.js)">/g)].map(
    (match) => match[1] ?? '',
  )
export const sourceOf = (script: string): string => readFileSync(new URL(script, assets), 'utf8')

type Listener = (event: object) => unknown
export type FakeElement = Record<string, unknown> & { readonly listeners: Map<string, Listener> }

/** An element that has every property: what was written, else another such element, which can be called. */
function fakeElement(): FakeElement {
  const listeners = new Map<string, Listener>()
  const own = new Map<PropertyKey, unknown>([
    ['listeners', listeners],
    ['addEventListener', (type: string, listener: Listener) => void listeners.set(type, listener)],
    ['then', undefined],
    [Symbol.toPrimitive, () => ''],
    [Symbol.iterator, () => [][Symbol.iterator]()],
  ])
  const attributes = new Map<string, unknown>()
  own.set('setAttribute', (name: string, value: unknown) => void attributes.set(name, value))
  own.set('getAttribute', (name: string) => attributes.get(name) ?? null)
  own.set('removeAttribute', (name: string) => void attributes.delete(name))
  const element: FakeElement = new Proxy(class {}, {
    get(_, key) {
      if (!own.has(key)) own.set(key, fakeElement())
      return own.get(key)
    },
    set: (_, key, value) => Boolean(own.set(key, value)),
    apply: () => fakeElement(),
    construct: () => fakeElement(),
  }) as unknown as FakeElement
  return element
}

export interface Response {
  readonly status?: number
  readonly body?: unknown
}
export interface Request {
  readonly path: string
  readonly init: { readonly method?: string; readonly body?: string; readonly signal?: AbortSignal }
}

/** Names and values of the fields, by the selector of their form. */
type Forms = Readonly<Record<string, [name: string, value: string][]>>

/** A page in memory. Timers of the page run when `tick` is called. */
export class PageInMemory {
  readonly requests: Request[] = []
  /** Limits of the requests, ms. */
  readonly limits: number[] = []
  readonly addresses: string[] = []
  reloads = 0
  respond: (path: string) => Response | Promise<Response> = () => ({ status: 503 })
  readonly document: FakeElement = fakeElement()
  readonly #elements = new Map<string, FakeElement>()
  readonly #context: Context
  #timers: (() => void)[] = []

  constructor(
    scripts: readonly string[],
    { hash = '', forms = {}, width = 0 }: { hash?: string; forms?: Forms; width?: number } = {},
  ) {
    const { document } = this
    const find = (selector: string): FakeElement => this.element(selector)
    document.querySelector = find
    document.getElementById = (id: string) => find(`#${id}`)
    document.querySelectorAll = () => []
    document.hidden = false
    document.documentElement = { dataset: { root: 'fleet', refresh: '2000' } }
    this.element('#sign-out').hidden = true
    this.element('#range').querySelector = () => ({ value: '15m' })
    const page = this
    this.#context = createContext({
      ...{ document, performance, URLSearchParams, console, queueMicrotask },
      fetch: (path: string, init: Request['init'] = {}) => this.#fetch(path, init),
      AbortSignal: { timeout: (ms: number) => this.limits.push(ms) },
      FormData: class {
        readonly #all: [string, string][]
        constructor(form: unknown) {
          const [, all = []] = Object.entries(forms).find(([selector]) => page.element(selector) === form) ?? []
          this.#all = all
        }
        [Symbol.iterator] = () => this.#all[Symbol.iterator]()
        get = (name: string) => this.#all.find(([key]) => key === name)?.[1] ?? ''
        getAll = (name: string) => this.#all.filter(([key]) => key === name).map(([, value]) => value)
      },
      ResizeObserver: class {
        readonly observe: () => void
        constructor(changed: (entries: object[]) => void) {
          this.observe = () => changed([{ contentRect: { width } }])
        }
      },
      CustomEvent: fakeElement(),
      matchMedia: () => ({ matches: false }),
      setTimeout: (run: () => void) => this.#timers.push(run),
      clearTimeout: () => {},
      addEventListener: () => {},
      location: { hash, pathname: '/fleet', search: '', reload: () => void this.reloads++ },
      history: { replaceState: (_: unknown, __: unknown, address: string) => void this.addresses.push(address) },
    })
    this.load(scripts)
  }

  load(scripts: readonly string[]): void {
    for (const script of scripts) runInContext(sourceOf(script), this.#context, { filename: script })
  }

  element(selector: string): FakeElement {
    const found = this.#elements.get(selector) ?? fakeElement()
    this.#elements.set(selector, found)
    return found
  }

  /** The value of an expression. Awaits it, and copies it out of the context. */
  async value<T>(expression: string): Promise<T> {
    const value = await runInContext(expression, this.#context)
    return value === undefined ? (undefined as T) : JSON.parse(JSON.stringify(value))
  }

  /** Calls a function of the scripts. */
  call<T>(name: string, ...given: readonly unknown[]): Promise<T> {
    return this.value(`${name}(${given.map((each) => JSON.stringify(each)).join(', ')})`)
  }

  /** Runs the timers that wait. */
  tick(): void {
    const timers = this.#timers
    this.#timers = []
    for (const run of timers) run()
  }

  async #fetch(path: string, init: Request['init']): Promise<object> {
    this.requests.push({ path, init })
    const { status = 200, body = {} } = await this.respond(path)
    return { ok: status < 400, status, json: async () => body }
  }
}

/** All scripts of the dashboard except for the loop that refreshes. */
export const quiet = (filters: Readonly<Record<string, string>> = {}, width = 0): PageInMemory => {
  const all = { text: '', state: '', pool: '', version: '', zone: '', ...filters }
  const forms: Forms = { '#event-filters': [['group', 'Deploys']], '#filters': Object.entries(all) }
  const scripts = scriptsOf('page').filter((script) => script !== 'page.js')
  return new PageInMemory(scripts, { forms, width })
}

export const now = 1_800_000_000_000
export const instance = (id: string, given: object = {}): object => ({
  ...{ id, state: 'serving', pool: 'default', version: '1', startedAt: now - 3_600_000, lastSeen: now, failing: [] },
  ...{ rps: 10, errorRate: 0, p95: 5, loop: 0.1, memory: 1_000 },
  ...given,
})
/** A state of the fleet as `readState` returns it. */
export const fleetOf = (instances: readonly object[], given: object = {}): object => ({
  ...{ servedBy: 'a', at: now, receivedAt: 0, redis: { state: 'ok' }, instances, departed: [] },
  ...given,
})
