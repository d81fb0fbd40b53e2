import { setImmediate as turn } from 'node:timers/promises'
import type { Operation } from '../../src/base/internals/prisma.ts'
import { resolveOptions } from '../../src/base/options.ts'
import { Router, routerOptions } from '../../src/database/router.ts'
import type { ServerClient } from '../../src/database/watch.ts'

/** A server in memory, with the parts of a Prisma client that the router uses. */
export class FakeServer implements ServerClient {
  readonly name: string
  standby: boolean
  /** `undefined`: it is down. */
  position: string | undefined = '0/5000'
  server: string
  /** Number of queries for its position. */
  asked = 0
  /** Result of an operation. */
  execute: (operation: Operation) => Promise<unknown> = async () => this.name
  readonly _originalClient = {}
  readonly _extensions = { append: (): object => ({}) }
  readonly $extends = (): object => ({})
  readonly _requestHandler = { request: (operation: Operation): Promise<unknown> => this.execute(operation) }

  constructor(name: string) {
    this.name = name
    this.server = name
    this.standby = name !== 'primary'
  }

  async $queryRawUnsafe(query: string): Promise<unknown> {
    if (query.includes('position')) this.asked++
    if (this.position === undefined) throw new Error('refused')
    const { standby, position, server } = this
    return [{ standby, position, server, block: 8192 }]
  }

  async $disconnect(): Promise<void> {}
}

export const read: Operation = { modelName: 'Item', action: 'findMany', clientMethod: '' }
export const write: Operation = { modelName: 'Item', action: 'update', clientMethod: '' }

/** An error of PostgreSQL as Prisma reports it. */
export const failure = (state: string): Error =>
  Object.assign(new Error(`SQLSTATE ${state}`), {
    code: 'P2010',
    meta: { driverAdapterError: { cause: { originalCode: state } } },
  })

/** A router over a primary and some replicas, once it has probed them. They are not probed again unless asked to. */
export async function fakeRouter(count: number, options: object = {}) {
  const primary = new FakeServer('primary')
  const replicas = Array.from({ length: count }, (_, index) => new FakeServer(`replica ${index + 1}`))
  const resolved = resolveOptions('replicas', routerOptions, { probeIntervalMs: 600_000, ...options })
  const router = new Router(primary, replicas, resolved)
  router.set.close()
  await turn()
  return { primary, replicas, router }
}
