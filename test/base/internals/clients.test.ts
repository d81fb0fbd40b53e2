import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import type { Cluster, Command, Redis } from 'ioredis'
import * as ioredis from 'ioredis'
import {
  canIntercept,
  interceptCommands,
  limitClusterCommands,
  watchCommands,
} from '../../../src/base/internals/ioredis.ts'
import {
  adoptSchema,
  executorOf,
  type Operation,
  observeErrors,
  poolSchema,
  withExecutor,
} from '../../../src/base/internals/prisma.ts'
import { shortcuts } from '../../../src/base/internals/shortcuts.ts'
import { clock } from '../../helpers/clock.ts'

describe('the commands of a Redis client', () => {
  function client(status: string) {
    const sent: unknown[][] = []
    const redis = { status, stream: 'socket', sendCommand: (...args: unknown[]) => sent.push(args) && 'reply' }
    return { sent, redis: redis as unknown as Redis }
  }
  const command = (isSettled = false): Command =>
    ({ isSettled, promise: Promise.resolve('settled') }) as unknown as Command

  it('are seen before they are sent, while the connection is ready or starts', () => {
    for (const [status, seen] of [
      ['ready', [['socket', true]]],
      ['connect', [['socket', false]]],
      ['connecting', []],
      ['wait', []],
    ] as const) {
      const { redis, sent } = client(status)
      const calls: unknown[] = []
      interceptCommands(redis, (_command, socket, isReady) => calls.push([socket, isReady]))
      const one = command()
      assert.equal(redis.sendCommand(one, 'given' as never), 'reply')
      assert.deepEqual([calls, sent], [seen, [[one, 'given']]])
    }
  })

  it('are not sent once they have timed out', async () => {
    const { redis, sent } = client('ready')
    interceptCommands(redis, () => assert.fail())
    assert.equal(await redis.sendCommand(command(true)), 'settled')
    assert.deepEqual(sent, [])
  })

  it('report each failure, and pass on what they return', async () => {
    const { redis, sent } = client('ready')
    const failures: Error[] = []
    watchCommands(redis, (error) => failures.push(error))
    const failed = { promise: Promise.reject(new Error('down')) } as unknown as Command
    assert.equal(redis.sendCommand(failed, 'a' as never), 'reply')
    assert.equal(redis.sendCommand(command()), 'reply')
    await new Promise(setImmediate)
    assert.deepEqual([failures.map(({ message }) => message), sent.length, sent[0]], [['down'], 2, [failed, 'a']])
  })

  it('can be intercepted only if ioredis has all the parts', (t) => {
    const changed = (change: (command: Record<string, unknown>) => void): boolean => {
      const Command = function (this: unknown, ...args: [string]): object {
        const made = new ioredis.Command(...args) as unknown as Record<string, unknown>
        const copy = {
          isSettled: made.isSettled,
          promise: made.promise,
          reject: made.reject,
          setTimeout: made.setTimeout,
        }
        change(copy)
        return copy
      }
      return canIntercept({ ...ioredis, Command: Command as never })
    }
    assert.equal(
      changed(() => {}),
      true,
    )
    for (const part of ['isSettled', 'promise', 'reject', 'setTimeout'])
      assert.equal(
        changed((command) => delete command[part]),
        false,
        part,
      )
    const without = { prototype: {} } as never
    assert.equal(canIntercept({ ...ioredis, Redis: without }), false)
    assert.equal(canIntercept({ ...ioredis, Cluster: without }), false)
    assert.equal(canIntercept(ioredis), true)
    shortcuts.redisDeadlines = false
    t.after(() => {
      shortcuts.redisDeadlines = true
    })
    assert.equal(canIntercept(ioredis), false)
  })
})

describe('the commands of a Redis Cluster', () => {
  function limited(t: TestContext, wasSent: boolean, isSettled = false) {
    const time = clock(t)
    const sends: unknown[][] = []
    const calls: unknown[] = []
    const command = {
      isSettled,
      reject: (error: Error) => calls.push(`failed ${error.message}`),
      setTimeout: (ms: number) => calls.push(ms),
    }
    const cluster = {
      sendCommand: (given: typeof command, ...rest: unknown[]) => {
        sends.push(rest)
        // ioredis replaces it, to try another node.
        if (sends.length === 1) given.reject = (error) => calls.push(`again ${error.message}`)
        return 'reply'
      },
    }
    limitClusterCommands(cluster as unknown as Cluster, 500, () => wasSent)
    const send = (cluster as unknown as Cluster).sendCommand as (...args: unknown[]) => unknown
    return { time, sends, calls, command, send }
  }

  it('have one time limit for all attempts', (t) => {
    const { time, sends, calls, command, send } = limited(t, false)
    assert.equal(send(command, 'stream', 'node'), 'reply')
    assert.deepEqual([sends, calls], [[['stream', 'node']], [500]])
    time.tick(200)
    command.reject(new Error('MOVED'))
    time.tick(299)
    command.reject(new Error('MOVED'))
    time.tick(100)
    command.reject(new Error('Connection is closed.'))
    assert.deepEqual(calls.slice(1), [300, 'again MOVED', 1, 'again MOVED', 1, 'again Connection is closed.'])
    // The same command at another node keeps its limit.
    assert.equal(send(command, 's2', 'n2'), 'reply')
    assert.deepEqual([sends[1], calls.length], [['s2', 'n2'], 7])
  })

  it('that a closed client rejects at once leave no timer', (t) => {
    const { calls, command, send } = limited(t, false, true)
    assert.equal(send(command), 'reply')
    assert.deepEqual(calls, [])
  })

  it('that were written to a connection that ended are not sent again', (t) => {
    const { calls, command, send } = limited(t, true)
    send(command)
    command.reject(new Error('Connection is closed.'))
    assert.deepEqual(calls, ['failed Connection is closed.'])
    command.reject(new Error('ASK'))
    assert.deepEqual(calls.slice(1), [500, 'again ASK'])
  })
})

describe('a Prisma client', () => {
  const invalid = { code: 'FLEET_ERR_OPTION_INVALID' }

  it('has another executor and more members, also for what is extended from it', () => {
    const requests: unknown[] = []
    const original = { own: 1, _requestHandler: { request: async () => 'original' } }
    const extensions = { append: (_: object) => extensions, list: ['first'] }
    const client = {
      ...original,
      _originalClient: original,
      _extensions: extensions,
      $extends(this: { _originalClient: object; _extensions: { append(extension: object): object } }) {
        return Object.create(this._originalClient, { extensions: { value: this._extensions.append({}) } })
      },
    }
    const execute = async (operation: Operation): Promise<unknown> => requests.push(operation)
    const derived = withExecutor(client, execute, { added: 2 }) as Record<string, unknown>
    assert.deepEqual([derived.own, derived.added, derived.extensions], [1, 2, extensions])
    const handler = derived._requestHandler as { request: unknown }
    assert.equal(handler.request, execute)
    assert.equal((derived._originalClient as { added: number }).added, 2)
    assert.ok(!('added' in client))
  })

  it('executes through its own handler', async () => {
    const handler = {
      mine: true,
      async request(this: { mine: boolean }, operation: Operation) {
        return [this.mine, operation.action]
      },
    }
    const client = {
      _originalClient: {},
      _extensions: { append: () => ({}) },
      $extends: () => ({}),
      _requestHandler: handler,
    }
    assert.deepEqual(await executorOf(client)({ action: 'find', clientMethod: 'x' }), [true, 'find'])
    for (const part of ['_originalClient', '_extensions', '$extends', '_requestHandler'])
      assert.throws(() => executorOf({ ...client, [part]: undefined }), invalid, part)
    assert.throws(() => executorOf({ ...client, _extensions: {} }), invalid)
  })

  it('tells the errors of operations and transactions, which still reach their caller, until that ends', async () => {
    const errors: unknown[] = []
    class Handler {
      async request(text: string): Promise<string> {
        throw new Error(text)
      }
    }
    const engine = { transaction: (text: string) => Promise.reject(new Error(text)) }
    const own = engine.transaction
    const client = { _requestHandler: new Handler(), _engine: engine }
    const end = observeErrors(client, (error) => errors.push((error as Error).message))
    await assert.rejects(client._requestHandler.request('one'), /one/)
    await assert.rejects(client._engine.transaction('two'), /two/)
    end()
    assert.equal(Object.hasOwn(client._requestHandler, 'request'), false)
    assert.equal(engine.transaction, own)
    await assert.rejects(client._requestHandler.request('three'), /three/)
    assert.deepEqual(errors, ['one', 'two'])
    observeErrors({}, () => {})()
    observeErrors({ _requestHandler: { request: 'x' } }, () => {})()
    // Another one that came later is not taken away.
    const first = observeErrors(client, () => {})
    const later = async (): Promise<string> => 'later'
    client._requestHandler.request = later
    first()
    assert.equal(client._requestHandler.request, later)
  })

  it('uses the schema of its pool, unless it names another one', () => {
    const client = (schema: string | undefined, pool: string | undefined) => {
      const adapter = { options: { schema, more: 1 }, externalPool: { [poolSchema]: pool } }
      return { adapter, client: { _engineConfig: { adapter } } }
    }
    const one = client(undefined, 'shop')
    assert.equal(adoptSchema(one.client), 'shop')
    assert.deepEqual(one.adapter.options, { schema: 'shop', more: 1 })
    assert.equal(adoptSchema(client('shop', 'shop').client), 'shop')
    assert.equal(adoptSchema(client('own', undefined).client), 'own')
    assert.throws(() => adoptSchema(client('own', 'shop').client), { ...invalid, message: /schema=shop.*own/ })
    assert.equal(adoptSchema({}), undefined)
    assert.equal(adoptSchema({ _engineConfig: {} }), undefined)
    assert.equal(adoptSchema({ _engineConfig: { adapter: { externalPool: null } } }), undefined)
  })
})
