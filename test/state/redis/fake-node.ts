import { EventEmitter } from 'node:events'

/** The connection that receives announcements. Its replies come when the test says so. */
export class FakeConnection extends EventEmitter {
  status = 'wait'
  /** Commands that wait for their reply, by name. */
  readonly waiting: { command: string; reply: (value: unknown) => void; fail: (error: Error) => void }[] = []
  readonly #node: FakeNode

  constructor(node: FakeNode) {
    super()
    this.#node = node
  }
  #send(command: string): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    this.waiting.push({ command, reply: resolve, fail: reject })
    const automatic = this.#node.replies[command.split(' ')[0] as string]
    if (automatic !== undefined) this.reply(automatic)
    return promise
  }
  info = (): Promise<unknown> => this.#send('info')
  client = (): Promise<unknown> => this.#send('id')
  call = (...args: unknown[]): Promise<unknown> => this.#send(`call ${args.join(' ')}`)
  subscribe = (channel: string): Promise<unknown> => this.#send(`subscribe ${channel}`)
  ping = (): Promise<unknown> => this.#send('ping')

  /** Replies to the oldest waiting command. An error rejects it. */
  reply(value: unknown): void {
    const next = this.waiting.shift()
    if (value instanceof Error) next?.fail(value)
    else next?.reply(value)
  }
  open(): void {
    this.status = 'ready'
    this.emit('ready')
  }
  disconnect(): void {
    if (this.status === 'end') return
    this.status = 'end'
    this.emit('end')
  }
  announce(keys: unknown): void {
    this.emit('messageBuffer', Buffer.from('__redis__:invalidate'), keys)
  }
}

/** A Redis server in memory, with the commands of sessions. */
export class FakeNode extends EventEmitter {
  readonly isCluster = false
  readonly options: { keyPrefix?: string }
  readonly connections: FakeConnection[] = []
  /** Replies to the commands of connections, by the first word of the command; others wait for the test. */
  replies: Record<string, unknown> = { info: 'run_id:one', id: 7, call: 'OK', subscribe: 1, ping: 'PONG' }
  ownInfo = 'run_id:one'
  readonly data = new Map<string, { text: string; ttlMs: number }>()
  readonly commands: string[] = []
  /** Awaited by reads. */
  gate: Promise<unknown> | undefined

  constructor(keyPrefix?: string) {
    super()
    this.options = keyPrefix === undefined ? {} : { keyPrefix }
  }
  /** Scripts fail. */
  defineCommand(name: string): void {
    Object.assign(this, { [name]: () => Promise.reject(new Error('no scripts')) })
  }
  duplicate(): FakeConnection {
    const connection = new FakeConnection(this)
    this.connections.push(connection)
    return connection
  }
  get connection(): FakeConnection {
    return this.connections.at(-1) as FakeConnection
  }
  info = async (): Promise<string> => this.ownInfo
  async get(key: string): Promise<string | null> {
    this.commands.push('get')
    const text = this.data.get(key)?.text ?? null
    await this.gate
    return text
  }
  async pttl(key: string): Promise<number> {
    await this.gate
    return this.data.get(key)?.ttlMs ?? -2
  }
  async set(key: string, text: string, _px: string, ttlMs: number): Promise<string> {
    this.data.set(key, { text, ttlMs })
    return 'OK'
  }
  async unlink(key: string): Promise<number> {
    return this.data.delete(key) ? 1 : 0
  }
}
