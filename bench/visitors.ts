import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/** Requests per second; an instance can serve many times as many. */
const rate = 100
/** A request without any byte for so long has failed; ms. */
const silenceMs = 10_000
const methods = ['GET', 'POST'] as const
type Method = (typeof methods)[number]

interface Response {
  /** 0: none. */
  readonly status: number
  readonly body: string
  readonly cookie?: string | undefined
}

interface Visitor {
  readonly user: string
  readonly cookie: string
  /** Its POSTs with a 200. */
  accepted: number
  /** Its POSTs without one, which may have been executed. */
  unknown: number
}

/** What happened to the requests of some time. */
export interface Account {
  sent: number
  /** Without a 200. */
  GET: number
  POST: number
  /** POSTs that were executed more than once. */
  twice: number
  /** Sessions whose login or count is not what their requests have made it. */
  sessions: number
}

/** Sessions of the app in `programs/shop.js`, and steady requests in them, each of which is accounted for. */
export class Visitors {
  readonly #port: number
  readonly #ledger: string
  readonly #agent = new Agent({ keepAlive: true })

  /** @param ledger the file into which the app writes the id of each execution */
  constructor(port: number, ledger: string) {
    this.#port = port
    this.#ledger = ledger
  }

  /** Sends at a fixed rate, a GET and a POST in turn, while something happens. */
  async during(event: () => Promise<void>): Promise<Account> {
    const name = randomUUID()
    const account: Account = { sent: 0, GET: 0, POST: 0, twice: 0, sessions: 0 }
    const visitors = await this.logIn(rate)
    // A session has one request at a time: what overlaps is counted by overlap().
    const free = [...visitors]
    const inFlight = new Set<Promise<void>>()
    const send = async (visitor: Visitor, method: Method, id: string): Promise<void> => {
      const path = method === 'GET' ? '/me' : `/count?id=${id}`
      const { status } = await this.#exchange(method, path, visitor.cookie)
      if (status !== 200) {
        account[method]++
        process.stderr.write(`${method} ${path}: ${status || 'no response'}\n`)
      }
      if (method === 'POST') visitor[status === 200 ? 'accepted' : 'unknown']++
      free.push(visitor)
    }
    let running = true
    const happened = event().finally(() => {
      running = false
    })
    // Its error is thrown by the `await` below.
    happened.catch(() => {})
    const began = performance.now()
    while (running) {
      const due = began + (account.sent * 1000) / rate
      await sleep(Math.max(0, due - performance.now()))
      const visitor = free.shift()
      if (!visitor) continue
      const exchange = send(visitor, methods[account.sent % 2] as Method, `${name}-${account.sent}`)
      account.sent++
      inFlight.add(exchange)
      exchange.finally(() => inFlight.delete(exchange))
    }
    await happened
    await Promise.all(inFlight)
    account.twice = this.#repeated(name)
    for (const visitor of visitors) if (!(await this.#isKept(visitor))) account.sessions++
    return account
  }

  /**
   * Two requests of a session at the same time, in many sessions. @returns how many changes of two are lost, in percent, when they
   * set different fields
   */
  async overlap(sessions = 50): Promise<number> {
    let lost = 0
    for (const { cookie } of await this.logIn(sessions)) {
      const fields = ['theme', 'language']
      await Promise.all(fields.map((field) => this.#exchange('POST', `/set?field=${field}`, cookie)))
      const { body } = await this.#exchange('GET', '/me', cookie)
      const session = JSON.parse(body) as Record<string, string>
      lost += fields.filter((field) => session[field] !== 'set').length
    }
    return (lost / (2 * sessions)) * 100
  }

  /** Waits until a response has this status. */
  async until(status: number): Promise<void> {
    for (const began = performance.now(); (await this.#exchange('GET', '/me')).status !== status; await sleep(20)) {
      if (performance.now() - began > 60_000) throw new Error(`Error: no response with ${status} within a minute`)
    }
  }

  async logIn(count: number): Promise<Visitor[]> {
    const visitors: Visitor[] = []
    for (let i = 0; i < count; i++) {
      const user = `user-${i}`
      const { status, cookie } = await this.#exchange('POST', `/login?user=${user}`)
      if (cookie === undefined) throw new Error(`Error: login gave no cookie: ${status}`)
      visitors.push({ user, cookie, accepted: 0, unknown: 0 })
    }
    return visitors
  }

  close(): void {
    this.#agent.destroy()
  }

  async #isKept({ user, cookie, accepted, unknown }: Visitor): Promise<boolean> {
    // What fails now says nothing about the session.
    let { status, body } = await this.#exchange('GET', '/me', cookie)
    for (let tries = 0; status !== 200 && status !== 401 && tries < 100; tries++) {
      await sleep(100)
      ;({ status, body } = await this.#exchange('GET', '/me', cookie))
    }
    if (status !== 200) return false
    const session = JSON.parse(body) as { user?: string; count: number }
    return session.user === user && session.count >= accepted && session.count <= accepted + unknown
  }

  #repeated(name: string): number {
    const lines = existsSync(this.#ledger) ? readFileSync(this.#ledger, 'utf8').split('\n') : []
    const own = lines.filter((id) => id.startsWith(name))
    return own.length - new Set(own).size
  }

  #exchange(method: Method, path: string, cookie?: string): Promise<Response> {
    const headers = cookie === undefined ? {} : { cookie }
    return new Promise((resolve) => {
      const none = (): void => resolve({ status: 0, body: '' })
      const options = { host: '127.0.0.1', port: this.#port, method, path, agent: this.#agent, headers }
      const outgoing = request(options, (response) => {
        let body = ''
        response.setEncoding('utf8').on('data', (text: string) => {
          body += text
        })
        response.once('error', none)
        response.once('end', () => {
          const [set] = response.headers['set-cookie'] ?? []
          resolve({ status: response.statusCode ?? 0, body, cookie: set?.split(';', 1)[0] })
        })
      })
      outgoing.setTimeout(silenceMs, () => outgoing.destroy())
      outgoing.once('error', none)
      outgoing.end()
    })
  }
}
