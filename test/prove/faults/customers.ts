import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'undici'
import { query } from '../../database/databases.ts'
import { repeat } from '../../helpers/repeat.ts'
import { until } from '../../helpers/until.ts'
import type { Shop } from './shop.ts'

/** No response may take longer: the longest timeout of a front (60 s) and the time that this process may be late. */
const hangMs = 70_000

/** A time with or without faults. Each failed request belongs to one. */
export interface Phase {
  readonly name: string
  /** Whether a failure is expected. */
  readonly faulty: boolean
  /** Failures by kind, such as `POST /orders 503 FLEET_ERR_STATE_UNAVAILABLE`. */
  readonly failures: Map<string, number>
}

export const phase = (name: string, faulty: boolean): Phase => ({ name, faulty, failures: new Map() })

interface Response {
  user?: string | null
  n?: number
  code?: string
}

/** One browser: a cookie, and what was acknowledged. */
class Customer {
  readonly user: string
  readonly #connection: Client
  readonly #cookies = new Map<string, string>()
  /** The highest acknowledged number in the session, and the highest that is safe from a failover. */
  visits = { sent: 0, acked: 0, safe: 0 }
  orders = { sent: 0, acked: 0, pending: false }
  /** Whether the session is safe from a failover. */
  safe = false

  constructor(user: string, connection: Client) {
    this.user = user
    this.#connection = connection
  }

  async send(
    method: 'GET' | 'POST',
    path: string,
    body?: object,
    key?: string,
  ): Promise<{ status: number; body: Response }> {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const response = await this.#connection.request({
      method,
      path,
      headers: {
        ...(cookie && { cookie }),
        ...(body && { 'content-type': 'application/json' }),
        ...(key && { 'idempotency-key': key }),
      },
      body: body && JSON.stringify(body),
    })
    const text = await response.body.text()
    for (const line of [response.headers['set-cookie'] ?? []].flat()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      this.#cookies.set(name, value)
    }
    const json = /json/.test(String(response.headers['content-type'])) ? (JSON.parse(text) as Response) : {}
    return { status: response.statusCode, body: json }
  }
}

/**
 * Customers that log in, change their session, order with a key and repeat the order until it is acknowledged, read their
 * orders through a replica, and leave notes without a key, which nothing may repeat.
 */
export class Customers {
  readonly counts = {
    requests: 0,
    failed: 0,
    inFlight: 0,
    twice: 0,
    stale: 0,
    lost: 0,
    strangers: 0,
    unreplicated: 0,
    again: 0,
  }
  phase: Phase = phase('start', false)
  /** What was wrong, for the message of a failed assertion. */
  readonly wrong: string[] = []
  readonly #shop: Shop
  readonly #name = randomUUID().slice(0, 8)
  readonly #customers: Customer[] = []
  readonly #connections: Client[]
  readonly #notes = new Map<string, boolean>()
  readonly #orders = new Map<string, boolean>()
  /** Writes since a point that the replica has are lost if the primary fails. */
  #atRisk = false
  /** Runs from before this point may run again: Redis has lost their records. */
  #exempt = new Set<string>()
  /** Stops without a comparison. */
  readonly halt: () => Promise<void>

  private constructor(shop: Shop, connections: Client[]) {
    this.#shop = shop
    this.#connections = connections
    this.halt = repeat(connections.length, (at, i) => this.#turn(at, i), 15)
  }

  static start(shop: Shop, count = 8): Customers {
    const options = { headersTimeout: hangMs, bodyTimeout: hangMs, keepAliveTimeout: 4000 }
    return new Customers(
      shop,
      Array.from({ length: count }, () => new Client(shop.url, options)),
    )
  }

  /** Waits for further requests. */
  async more(count: number): Promise<void> {
    const mark = this.counts.requests + count
    await until(() => this.counts.requests >= mark, { what: `${count} more requests`, timeoutMs: hangMs })
  }

  /**
   * Waits until every order that was open is acknowledged. The key of one whose instance was killed stays claimed for `lockMs`
   * (10 s), with 409 for its repetitions.
   */
  async settled(): Promise<void> {
    const open = this.#customers
      .filter(({ orders }) => orders.pending)
      .map((customer) => [customer, customer.orders.sent] as const)
    await until(() => open.every(([{ orders }, n]) => orders.acked >= n), { what: 'open orders' })
  }

  /**
   * Called before Redis loses its primary.
   *
   * @param replicated whether the replica has all writes so far
   */
  async beforeFailover(replicated: () => Promise<boolean>): Promise<void> {
    const marks = this.#customers.map((customer) => [customer, customer.visits.acked] as const)
    const open = [...this.#orders].flatMap(([id, acked]) => (acked ? [] : [id]))
    if (await replicated())
      for (const [customer, acked] of marks) {
        customer.visits.safe = acked
        customer.safe = true
      }
    this.#atRisk = true
    for (const id of open) this.#exempt.add(id)
  }

  /** Compares what was acknowledged with what is there. Only while no fault is active. */
  async account(): Promise<void> {
    for (const customer of this.#customers) {
      const { body, status } = await customer.send('GET', '/me')
      const { visits, user } = customer
      assert.equal(status, 200, `${user}: ${status} ${body.code}`)
      const keptTo = this.#atRisk ? visits.safe : visits.acked
      const known = !this.#atRisk || customer.safe
      if (body.user !== user || (body.n ?? 0) < keptTo) {
        if (known)
          this.#count('lost', `session of ${user}: ${JSON.stringify(body)}, acknowledged ${JSON.stringify(visits)}`)
        else this.counts.unreplicated++
      } else if ((body.n ?? 0) < visits.acked) this.counts.unreplicated++
      visits.acked = body.n ?? 0
    }
    this.#atRisk = false
  }

  /** Stops, and compares what ran, and what the database has, with what was acknowledged. */
  async stop(): Promise<void> {
    await this.halt()
    await this.account()
    await Promise.all(this.#connections.map((connection) => connection.close()))
    const { runs, database } = this.#shop
    for (const [id, acked] of this.#notes) {
      const ran = runs.of(id).length
      if (ran > 1) this.#count('twice', `note ${id} ran ${ran} times`)
      if (acked && ran === 0) this.#count('lost', `note ${id}`)
    }
    const rows = database ? await query(database.primary.url, 'SELECT id FROM shop_orders') : []
    const stored = new Set(rows.map(({ id }) => id))
    for (const [id, acked] of this.#orders) {
      const ran = runs.of(id)
      if (acked && (ran.length === 0 || (database && !stored.has(id)))) this.#count('lost', `order ${id}`)
      // A run that ended with a 5xx may be repeated, and one whose process died or whose record was lost.
      const complete = ran.slice(0, -1).filter(({ statuses, died }) => !died && (statuses.at(-1) ?? 200) < 500)
      if (complete.length > 0 && !this.#exempt.has(id)) this.#count('twice', `order ${id}: ${JSON.stringify(ran)}`)
      else if (ran.length > 1) this.counts.again++
    }
  }

  #count(what: 'failed' | 'twice' | 'stale' | 'lost' | 'strangers', text: string): void {
    this.counts[what]++
    // The first ones tell enough.
    if (this.wrong.length < 20) this.wrong.push(`${what}: ${text} (${this.phase.name})`)
  }

  async #turn(at: number, i: number): Promise<void> {
    const user = `${this.#name}-${at}`
    let customer = this.#customers[at]
    if (!customer) {
      customer = new Customer(user, this.#connections[at] as Client)
      if (await this.#send(customer, 'POST', '/login', { user })) this.#customers[at] = customer
      return
    }
    const { visits, orders } = customer
    const step = (at + i) % 6
    if (step === 0 || step === 3) {
      const [acked, safe] = [visits.acked, visits.safe]
      const response = await this.#send(customer, 'GET', '/me')
      if (response && (response.n ?? 0) < (this.#atRisk ? safe : acked))
        this.#count('lost', `visits of ${user}: ${response.n} of ${acked}`)
    } else if (step === 1) {
      const n = ++visits.sent
      if (await this.#send(customer, 'POST', '/visits', { n })) visits.acked = Math.max(visits.acked, n)
    } else if (step === 2) {
      if (!orders.pending) orders.sent++
      const [n, id] = [orders.sent, `${user}-order-${orders.sent}`]
      if (!orders.pending) this.#orders.set(id, false)
      orders.pending = !(await this.#send(customer, 'POST', '/orders', { id, n }, id))
      if (orders.pending) return
      this.#orders.set(id, true)
      orders.acked = n
    } else if (step === 4 && this.#shop.database) {
      const acked = orders.acked
      const response = await this.#send(customer, 'GET', '/orders')
      if (!response || (response.n ?? 0) >= acked) return
      // The position of the user's last write is in the session.
      if (this.#atRisk) this.counts.unreplicated++
      else this.#count('stale', `orders of ${user}: ${response.n} of ${acked}`)
    } else {
      const id = `${user}-note-${i}`
      this.#notes.set(id, false)
      this.#notes.set(id, (await this.#send(customer, 'POST', '/notes', { id })) !== undefined)
    }
  }

  /** @returns the response if it is the promised one */
  async #send(
    customer: Customer,
    method: 'GET' | 'POST',
    path: string,
    body?: object,
    key?: string,
  ): Promise<Response | undefined> {
    const began = this.phase
    this.counts.requests++
    let kind: string
    try {
      const { status, body: response } = await customer.send(method, path, body, key)
      if (status === 200) {
        const { user } = response
        if (path === '/notes' || user === customer.user) return response
        if (user) this.#count('strangers', `${customer.user} got a response for ${user}`)
        else if (!this.#atRisk || customer.safe) this.#count('lost', `session of ${customer.user}`)
        kind = 'no session'
      } else kind = `${status} ${response.code ?? ''}`.trim()
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      kind =
        code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT' ? 'hang' : `connection ${code ?? message}`
    }
    const owner = began.faulty ? began : this.phase
    const text = `${method} ${path} ${kind}`
    owner.failures.set(text, (owner.failures.get(text) ?? 0) + 1)
    if (!owner.faulty || kind === 'hang') this.#count('failed', text)
    // Whether it was executed is unknown.
    else if (method === 'POST' && /^(?:502|504|connection (?!ECONNREFUSED))/.test(kind)) this.counts.inFlight++
    if (kind.startsWith('connection')) await sleep(100)
    return undefined
  }
}
