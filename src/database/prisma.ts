import { FleetError } from '../base/errors.ts'

/** What a Prisma client hands to the last of its parts: an operation that has passed extensions, checks and serializer. */
export interface Operation {
  readonly modelName?: string
  readonly action: string
  /** Its name when it has no model, as `$queryRaw`. */
  readonly clientMethod: string
  readonly args?: unknown
  readonly transaction?: unknown
}

/** Does an operation on one server. */
export type Execute = (operation: Operation) => Promise<unknown>

/** The inside of a Prisma client of version 7, as far as it is used here. */
interface Inside {
  readonly _originalClient: object
  readonly _extensions: { append(extension: object): object }
  readonly _requestHandler: { request: Execute }
  $extends(extension: object): object
}

function inside(client: object): Inside {
  const { _originalClient, _extensions, _requestHandler, $extends } = client as Partial<Inside>
  if (_originalClient && _extensions && typeof _requestHandler?.request === 'function' && $extends)
    return client as Inside
  throw new FleetError('FLEET_ERR_OPTION_INVALID', '`replicas` is for clients that Prisma 7 has generated')
}

/** How `client` does operations, without what comes before: it was done by the client that was asked. */
export function executorOf(client: object): Execute {
  const handler = inside(client)._requestHandler
  return (operation) => handler.request(operation)
}

/**
 * The same client with another way to do operations, and with `members`. A query extension could choose the server,
 * too, and has every operation pass through two clients for it: at twenty reads at a time that was a third of their cost.
 */
export function withExecutor(client: object, execute: Execute, members: object = {}): object {
  const { _originalClient: original, _extensions: extensions, $extends } = inside(client)
  const own = {
    ...Object.getOwnPropertyDescriptors(original),
    ...Object.getOwnPropertyDescriptors({ ...members, _requestHandler: { request: execute } }),
  }
  const made: object = Object.create(Object.getPrototypeOf(original), own)
  // Whatever extends the new client begins with it. One extension more, even an empty one, would cost each operation.
  Object.defineProperty(made, '_originalClient', { value: made })
  const parent = Object.create(client, {
    _originalClient: { value: made },
    _extensions: { value: { append: () => extensions } },
  })
  return $extends.call(parent, {})
}
