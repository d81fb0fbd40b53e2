// Touches: the classes that Fastify keeps on an app under symbols named `fastify.Request` and `fastify.Reply`, with their list
//   `props`; the child scopes under `fastify.children`; the flag `fastify.errorHandlerAlreadySet`; and the name of the default
//   `genReqId`.
// Seen in: Fastify 5.0 to 5.12.
// Worth: needed for correctness. A decorator cannot be removed in a public way, so a plugin of the app that is registered after
//   ours could not use the names that it needs.
// Fallback: symbols that are not found; then the app's plugin ends the boot with FST_ERR_DEC_ALREADY_PRESENT.

import type { FastifyInstance } from 'fastify'
import { symbolOf } from './fastify.ts'

export type Decorated = 'instance' | 'request' | 'reply'

interface Decorable {
  readonly prototype: object
  readonly props: { readonly key: string | symbol }[]
}

function read<T>(app: FastifyInstance, description: string): T | undefined {
  const key = symbolOf(app, description)
  return key && (app as unknown as Record<symbol, T | undefined>)[key]
}

const classOf = (app: FastifyInstance, kind: 'request' | 'reply'): Decorable | undefined =>
  read<Decorable>(app, kind === 'request' ? 'fastify.Request' : 'fastify.Reply')

/** Removes a decorator from a scope. One that the scope has from its parent stays in the parent. */
export function undecorate(scope: FastifyInstance, kind: Decorated, name: string | symbol): void {
  if (kind === 'instance') {
    Reflect.deleteProperty(scope, name)
    return
  }
  const decorable = classOf(scope, kind)
  if (!decorable) return
  Reflect.deleteProperty(decorable.prototype, name)
  const at = decorable.props.findIndex(({ key }) => key === name)
  if (at >= 0) decorable.props.splice(at, 1)
}

export interface Accessor {
  readonly getter?: () => unknown
  readonly setter?: (value: unknown) => void
}

/** Turns a decorator that is a function into an accessor that can be removed. */
export function redecorate(scope: FastifyInstance, kind: Decorated, name: string | symbol, accessor: Accessor): void {
  const target = kind === 'instance' ? scope : classOf(scope, kind)?.prototype
  const { getter: get, setter: set } = accessor
  if (target) Object.defineProperty(target, name, { get, set, configurable: true })
}

/** The value of a request decorator that does not depend on the request; `undefined` if it does or there is none. */
export function constantOf(app: FastifyInstance, name: string): unknown {
  try {
    return (classOf(app, 'request')?.prototype as Record<string, unknown> | undefined)?.[name]
  } catch {
    return undefined
  }
}

/** Whether `setErrorHandler` was called in this scope. */
export const hasErrorHandler = (app: FastifyInstance): boolean =>
  read<boolean>(app, 'fastify.errorHandlerAlreadySet') === true

/** Whether the app has `genReqId` or `requestIdHeader`. */
export const hasRequestIds = (app: FastifyInstance): boolean =>
  !(app as unknown as { genReqId: { name: string } }).genReqId.name.startsWith('defaultGenReqId')

/** All scopes below an app. */
export const scopesBelow = (app: FastifyInstance): FastifyInstance[] =>
  (read<FastifyInstance[]>(app, 'fastify.children') ?? []).flatMap((child) => [child, ...scopesBelow(child)])
